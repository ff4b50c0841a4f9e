//! The directives of `Cache-Control` that decide here (RFC 9111, 5.2; RFC 5861, 4).
//!
//! Directives that change nothing here are passed over: `no-transform`, as nothing is transformed,
//! `only-if-cached`, as no request is answered without asking the upstream, and `immutable`.

use std::time::Duration;

/// The longest time that a directive can say. What does not fit is taken as this, as RFC 9111,
/// 1.2.2 asks.
const LONGEST: Duration = Duration::from_secs(1 << 31);

/// What the lines of one message's `Cache-Control` say. Of a directive that is there twice the
/// stricter one counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-store`.
    pub no_store: bool,
    /// `no-cache`, with field names or without.
    pub no_cache: bool,
    /// `private`, with field names or without.
    pub private: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate` or `proxy-revalidate`, which are one to a shared cache.
    pub must_revalidate: bool,
    /// `max-age`. One that cannot be read is 0.
    pub max_age: Option<Duration>,
    /// `s-maxage`.
    pub s_maxage: Option<Duration>,
    /// `stale-if-error`.
    pub stale_if_error: Option<Duration>,
    /// `max-stale` of a request; without a number it is [`Duration::MAX`].
    pub max_stale: Option<Duration>,
    /// `min-fresh` of a request.
    pub min_fresh: Option<Duration>,
}

impl Directives {
    /// Reads the lines of the field, in their order.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut read = Self::default();
        for line in lines {
            let mut rest = line;
            while !rest.is_empty() {
                let (directive, tail) = split_member(rest);
                read.take(directive);
                rest = tail;
            }
        }
        read
    }

    fn take(&mut self, directive: &[u8]) {
        let mut halves = directive.splitn(2, |b| *b == b'=');
        let name = halves.next().unwrap_or_default().trim_ascii();
        let value = halves.next().map(<[u8]>::trim_ascii);
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
        if is("no-store") {
            self.no_store = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("private") {
            self.private = true;
        } else if is("public") {
            self.public = true;
        } else if is("must-revalidate") || is("proxy-revalidate") {
            self.must_revalidate = true;
        } else if is("max-age") {
            shorten(&mut self.max_age, seconds(value));
        } else if is("s-maxage") {
            shorten(&mut self.s_maxage, seconds(value));
        } else if is("stale-if-error") {
            shorten(&mut self.stale_if_error, seconds(value));
        } else if is("max-stale") {
            shorten(&mut self.max_stale, value.map_or(Duration::MAX, |_| seconds(value)));
        } else if is("min-fresh") {
            // The longer one is the stricter here.
            self.min_fresh = Some(self.min_fresh.unwrap_or_default().max(seconds(value)));
        }
    }
}

/// The first member of a list and what follows its comma. Commas in quotes do not part members.
fn split_member(list: &[u8]) -> (&[u8], &[u8]) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, b) in list.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                return (
                    list.get(..at).unwrap_or_default(),
                    list.get(at + 1..).unwrap_or_default(),
                );
            }
            _ => {}
        }
    }
    (list, &[])
}

fn shorten(known: &mut Option<Duration>, said: Duration) {
    *known = Some(known.map_or(said, |known| known.min(said)));
}

/// A number of seconds, in quotes or not; what is no number is 0, the strictest.
fn seconds(value: Option<&[u8]>) -> Duration {
    let text = value.unwrap_or_default();
    let inner = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    let digits = inner.unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Duration::ZERO;
    }
    let number = digits.iter().fold(0_u64, |number, digit| {
        number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    Duration::from_secs(number).min(LONGEST)
}
