//! The access log: one line a request, as JSON or as `key=value` text.
//!
//! A line cannot be forged by what a client sends: quotes, control characters and characters that
//! turn the direction of text are escaped, and each value is cut at a length of its own. Secrets
//! are kept out: of a target only the path is written, of an authority nothing before the `@`, and
//! no header but the request's identifier.

mod writer;

use std::fmt::{Display, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::metrics::Would;
use super::reason::Reason;
use crate::config::telemetry::{AccessLog as Settings, AccessLogTo, Format};
pub use writer::AccessLog;

/// The most bytes of a path that are written.
const PATH_MAX: usize = 1024;
/// The most bytes of a host: the longest name in DNS, with a port.
const HOST_MAX: usize = 261;
/// The most bytes of a method, of a request's identifier and of every other short value.
const WORD_MAX: usize = 128;

/// What is known of a request that ended. What is `None` is left out of the line.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// When its head was read.
    pub time: SystemTime,
    /// The listener on which it came.
    pub listener: &'a str,
    /// The client's address.
    pub client: Option<SocketAddr>,
    /// The protocol on the client's side, such as `HTTP/1.1`.
    pub protocol: &'a str,
    /// The method.
    pub method: &'a str,
    /// The authority that was asked for.
    pub host: &'a str,
    /// The target. What follows a `?` or `#` is not written.
    pub path: &'a str,
    /// The identifier that the request carried.
    pub request_id: Option<&'a str>,
    /// The route that it took.
    pub route: Option<&'a str>,
    /// The upstream that it went to.
    pub upstream: Option<&'a str>,
    /// The address of the last attempt.
    pub endpoint: Option<&'a str>,
    /// The status that was sent.
    pub status: Option<u16>,
    /// The gRPC status that was sent.
    pub grpc_status: Option<u16>,
    /// Why we answered ourselves or cut the answer off.
    pub reason: Option<Reason>,
    /// From the request's head to the last byte of the answer; written in milliseconds.
    pub duration: Duration,
    /// How many attempts were made.
    pub attempts: u32,
    /// Why the last failure was not tried again.
    pub retry_suppressed: Option<&'a str>,
    /// The policies in observe mode that would have acted.
    pub would: &'a [Would],
    /// The link of the fallback chain that answered.
    pub fallback: Option<&'a str>,
    /// Whether it was answered by what another request in flight had fetched.
    pub coalesced: bool,
    /// Bytes of the request's body that were read from the client.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were sent to the client.
    pub bytes_out: u64,
}

/// Whether a request is logged: `random` is from `[0, 1)`, `error` says that it ended with a 5xx or
/// with an answer of our own.
#[must_use]
pub fn should_log(settings: &Settings, error: bool, random: f64) -> bool {
    settings.to != AccessLogTo::None
        && ((error && settings.always_on_error) || random < settings.sample.get())
}

impl Access<'_> {
    /// Appends the line in a form, with its line feed.
    pub fn render(&self, format: Format, out: &mut String) {
        match format {
            Format::Json => self.render_json(out),
            Format::Text => self.render_text(out),
        }
    }

    /// Appends one JSON object and a line feed.
    pub fn render_json(&self, out: &mut String) {
        out.push('{');
        let mut line = Line { out, json: true, first: true };
        self.fields(&mut line);
        out.push_str("}\n");
    }

    /// Appends `key=value` pairs and a line feed; a value is quoted where it has to be.
    pub fn render_text(&self, out: &mut String) {
        let mut line = Line { out, json: false, first: true };
        self.fields(&mut line);
        out.push('\n');
    }

    fn fields(&self, line: &mut Line<'_>) {
        line.key("time");
        line.time(self.time);
        line.text("listener", self.listener, WORD_MAX);
        if let Some(client) = self.client {
            line.key("client");
            line.quoted(&client);
        }
        line.text("protocol", self.protocol, WORD_MAX);
        line.text("method", self.method, WORD_MAX);
        let host = self.host.rsplit_once('@').map_or(self.host, |(_, host)| host);
        line.text("host", host, HOST_MAX);
        let path = self.path.split(['?', '#']).next().unwrap_or_default();
        line.text("path", path, PATH_MAX);
        line.some_text("request_id", self.request_id);
        line.some_text("route", self.route);
        line.some_text("upstream", self.upstream);
        line.some_text("endpoint", self.endpoint);
        line.some_number("status", self.status);
        line.some_number("grpc_status", self.grpc_status);
        line.some_text("reason", self.reason.map(Reason::as_str));
        let micros = self.duration.as_micros();
        line.key("duration_ms");
        line.append(format_args!("{}.{:03}", micros / 1000, micros % 1000));
        line.some_number("attempts", Some(self.attempts));
        line.some_text("retry_suppressed", self.retry_suppressed);
        line.policies("would", self.would);
        line.some_text("fallback", self.fallback);
        line.some_number("coalesced", self.coalesced.then_some(true));
        line.some_number("bytes_in", Some(self.bytes_in));
        line.some_number("bytes_out", Some(self.bytes_out));
    }
}

/// A line that is being written.
struct Line<'o> {
    out: &'o mut String,
    json: bool,
    first: bool,
}

impl Line<'_> {
    fn key(&mut self, key: &'static str) {
        if !self.first {
            self.out.push(if self.json { ',' } else { ' ' });
        }
        self.first = false;
        if self.json {
            self.out.push('"');
            self.out.push_str(key);
            self.out.push_str("\":");
        } else {
            self.out.push_str(key);
            self.out.push('=');
        }
    }

    /// Appends what needs no escape. Writing into a `String` cannot fail.
    fn append(&mut self, value: impl Display) {
        let _ = write!(self.out, "{value}");
    }

    /// Appends what needs no escape, in quotes where the form asks for them.
    fn quoted(&mut self, value: &dyn Display) {
        if self.json {
            self.append(format_args!("\"{value}\""));
        } else {
            self.append(value);
        }
    }

    fn some_number(&mut self, key: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.key(key);
            self.append(value);
        }
    }

    fn some_text(&mut self, key: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value, WORD_MAX);
        }
    }

    /// Appends a text of which nothing is known, cut after so many bytes.
    fn text(&mut self, key: &'static str, value: &str, max: usize) {
        self.key(key);
        let end = (0..=max.min(value.len())).rev().find(|end| value.is_char_boundary(*end));
        let kept = value.get(..end.unwrap_or_default()).unwrap_or_default();
        let cut = kept.len() < value.len();
        let bare = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:%+@,*[]".contains(&b);
        if !self.json && !cut && !kept.is_empty() && kept.bytes().all(bare) {
            self.out.push_str(kept);
            return;
        }
        self.out.push('"');
        self.escape(kept);
        if cut {
            self.out.push('\u{2026}');
        }
        self.out.push('"');
    }

    /// Appends a text with JSON's escapes, in either form. Plain runs are copied whole.
    fn escape(&mut self, text: &str) {
        let mut plain = 0;
        for (at, c) in text.char_indices().filter(|(_, c)| is_escaped(*c)) {
            self.out.push_str(text.get(plain..at).unwrap_or_default());
            plain = at + c.len_utf8();
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                // All others are below U+10000, so that one escape of four digits is enough.
                _ => self.append(format_args!("\\u{:04x}", u32::from(c))),
            }
        }
        self.out.push_str(text.get(plain..).unwrap_or_default());
    }

    fn policies(&mut self, key: &'static str, policies: &[Would]) {
        if policies.is_empty() {
            return;
        }
        self.key(key);
        let (open, between, close) =
            if self.json { ("[\"", "\",\"", "\"]") } else { ("", ",", "") };
        self.out.push_str(open);
        let mut first = true;
        for policy in Would::ALL.into_iter().filter(|policy| policies.contains(policy)) {
            if !first {
                self.out.push_str(between);
            }
            first = false;
            self.out.push_str(policy.as_str());
        }
        self.out.push_str(close);
    }

    /// Appends a time.
    fn time(&mut self, time: SystemTime) {
        self.quoted(&Rfc3339(time));
    }
}

/// A time as RFC 3339 writes it, in UTC, to the millisecond. A time before 1970 is written as the
/// first moment of 1970.
#[derive(Clone, Copy, Debug)]
pub struct Rfc3339(pub SystemTime);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let since = self.0.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (year, month, day) = date(since.as_secs() / 86_400);
        let second = since.as_secs() % 86_400;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        let milli = since.subsec_millis();
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
    }
}

/// Whether a character is written as an escape: what ends a string, controls, line and paragraph
/// separators, and what turns the direction of the text that follows.
const fn is_escaped(c: char) -> bool {
    matches!(
        c,
        '"' | '\\'
            | '\0'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    )
}

/// Year, month and day of a day counted from 1970-01-01. Years are taken to begin in March, so that
/// the leap day is the last of its year (H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
pub(crate) const fn date(days: u64) -> (u64, u64, u64) {
    // 719 468 days lie between 0000-03-01 and 1970-01-01; 146 097 days are 400 years.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + (month <= 2) as u64, month, day)
}

#[cfg(test)]
mod tests;
