//! Until when a certificate is valid: the one thing that we need of X.509 and that the verifier
//! does not tell. It is read from its place in DER (RFC 5280, 4.1.2.5), and nothing is trusted for
//! it: whether a certificate is good is the verifier's word alone.

use rustls::pki_types::CertificateDer;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, `[0] EXPLICIT`, which version 1 leaves out.
const VERSION: u8 = 0xa0;

/// The end of a certificate's validity in Unix seconds; `None` for what is no certificate.
pub(super) fn not_after(certificate: &CertificateDer<'_>) -> Option<i64> {
    let mut whole = Der(certificate.as_ref());
    let mut outer = Der(whole.take(SEQUENCE)?);
    let mut body = Der(outer.take(SEQUENCE)?);
    if body.next_is(VERSION) {
        body.take(VERSION)?;
    }
    body.take(INTEGER)?;
    // The algorithm of the signature, and the issuer.
    body.take(SEQUENCE)?;
    body.take(SEQUENCE)?;
    let mut validity = Der(body.take(SEQUENCE)?);
    validity.time()?;
    validity.time()
}

/// What is left of an encoding.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next_is(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// The content of the next element, if it has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (found, rest) = self.0.split_first()?;
        if *found != tag {
            return None;
        }
        let (first, mut rest) = rest.split_first()?;
        let mut length = usize::from(*first & 0x7f);
        if *first >= 0x80 {
            // More bytes than this would be more than any certificate; none is a form that DER
            // does not have.
            if !(1..=3).contains(&length) {
                return None;
            }
            let (bytes, after) = rest.split_at_checked(length)?;
            length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            rest = after;
        }
        let (content, after) = rest.split_at_checked(length)?;
        self.0 = after;
        Some(content)
    }

    /// A time in UTC, to the second.
    fn time(&mut self) -> Option<i64> {
        let short = self.next_is(UTC_TIME);
        let text = self.take(if short { UTC_TIME } else { GENERALIZED_TIME })?;
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        let (year, rest) = text.split_at_checked(if short { 2 } else { 4 })?;
        let year = number(year)?;
        let year = match year {
            // Two digits stand for 1950 to 2049 (RFC 5280, 4.1.2.5.1).
            0..50 if short => 2000 + year,
            50..100 if short => 1900 + year,
            _ => year,
        };
        let mut parts = [0; 5];
        let mut rest = rest;
        for part in &mut parts {
            let (digits, after) = rest.split_at_checked(2)?;
            *part = number(digits)?;
            rest = after;
        }
        let [month, day, hour, minute, second] = parts;
        let fits = rest.is_empty()
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 61;
        fits.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
    }
}

fn number(digits: &str) -> Option<i64> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: a year is counted from March, so that
/// the day that comes and goes is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let of_year = (153 * month + 2) / 5 + day - 1;
    let before = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From the first of March of year 0 to 1970-01-01.
    before + of_year - 719_468
}

#[cfg(test)]
mod tests;
