//! The head of a request (RFC 9112, 2 to 6): its line, its fields, and how its body is delimited.
//!
//! One reading or none. What the RFC lets a recipient tolerate is refused where another recipient
//! could take it for another message: lines that do not end in CRLF, folded lines, white space
//! before a colon, a length that is not plain digits or is there twice, a `Transfer-Encoding` that
//! is anything but `chunked` alone, and both framings together.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::Asked;

/// Heads of up to so many fields are read without memory of their own.
const FEW_FIELDS: usize = 32;
/// The most fields for which the parser's own notes are on the stack.
const STACK_FIELDS: usize = 128;
/// Room for what the limit on a head does not count: the version, spaces, the ends of lines, and
/// the host of an absolute target.
const UNCOUNTED_BYTES: usize = 1024;
/// The most empty lines before a request (RFC 9112, 2.2), in bytes: some clients send one after a
/// body.
const EMPTY_LINES_MAX: usize = 16;

/// What a head may come to.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Its bytes on the wire.
    pub bytes: usize,
    /// Its fields.
    pub fields: usize,
}

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    /// Its method, target, version and fields.
    pub request: Request<()>,
    /// What follows it.
    pub framing: Framing,
    /// What it asks of the answer.
    pub asked: Asked,
    /// Whether the client waits for 100 (Continue) before it sends the body.
    pub expects: bool,
}

/// How the body of a request is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// By its length, which is 0 where there is none.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// Why bytes are no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no one way to read them; what is wrong, as a sentence for people.
    Broken(&'static str),
    /// The head has more bytes or fields than it may.
    TooLarge,
}

/// Where a field stands in the buffer.
#[derive(Clone, Copy, Default)]
struct Place {
    name: (u32, u32),
    value: (u32, u32),
}

/// A whole head as it stands in the buffer.
struct Found {
    line: Line,
    fields: usize,
    length: usize,
}

/// The request line, with its target as a place in the buffer.
struct Line {
    method: Method,
    target: (u32, u32),
    version: Version,
}

/// Takes a head out of the buffer; `None` while it is not all there. `scanned` bytes were seen
/// before without finding its end.
///
/// # Errors
/// When it is not one clear HTTP/1 head, or too large.
pub fn take_head(
    buffer: &mut BytesMut,
    scanned: &mut usize,
    limits: HeadLimits,
) -> Result<Option<Head>, Refused> {
    let most = limits.bytes.saturating_add(UNCOUNTED_BYTES);
    // What comes in small pieces is parsed once, not once for each piece.
    let unseen = buffer.get(scanned.saturating_sub(3)..).unwrap_or_default();
    if *scanned > 0 && !unseen.windows(2).any(|two| two == b"\n\r" || two == b"\n\n") {
        return partial(buffer, scanned, most);
    }
    let (mut few, mut many) = ([Place::default(); FEW_FIELDS], Vec::new());
    let parsed = if limits.fields <= STACK_FIELDS {
        let mut fields = [const { MaybeUninit::uninit() }; STACK_FIELDS];
        let fields = fields.get_mut(..limits.fields).unwrap_or_default();
        parse(buffer, fields, &mut few, &mut many)
    } else {
        let mut fields = vec![MaybeUninit::uninit(); limits.fields];
        parse(buffer, &mut fields, &mut few, &mut many)
    };
    let Some(Found { line, fields, length }) = parsed? else {
        return partial(buffer, scanned, most);
    };
    if length > most {
        return Err(Refused::TooLarge);
    }
    *scanned = 0;
    let bytes = buffer.split_to(length).freeze();
    let places = if many.is_empty() { few.get(..fields).unwrap_or_default() } else { &many };
    read(&bytes, line, places).map(Some)
}

fn partial(buffer: &BytesMut, scanned: &mut usize, most: usize) -> Result<Option<Head>, Refused> {
    *scanned = buffer.len();
    if buffer.len() > most { Err(Refused::TooLarge) } else { Ok(None) }
}

/// Finds the parts of a head, if it is all there.
fn parse<'a>(
    buffer: &'a [u8],
    fields: &mut [MaybeUninit<httparse::Header<'a>>],
    few: &mut [Place],
    many: &mut Vec<Place>,
) -> Result<Option<Found>, Refused> {
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(buffer, fields) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(refusal(error)),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(NOT_HTTP);
    };
    let start = buffer.as_ptr() as usize;
    // A head is far smaller than what 32 bits count.
    let within = |text: &[u8]| {
        let from = (text.as_ptr() as usize - start) as u32;
        (from, from + text.len() as u32)
    };
    let before = buffer.get(..within(method.as_bytes()).0 as usize).unwrap_or_default();
    if before.len() > EMPTY_LINES_MAX || before.chunks(2).any(|line| line != b"\r\n") {
        return Err(BARE_LINE_END);
    }
    let count = parsed.headers.len();
    let places = match few.get_mut(..count) {
        Some(few) => few,
        None => {
            many.resize(count, Place::default());
            many.as_mut_slice()
        }
    };
    // Each line ends where the next begins, so this is every line's end.
    let ends_well = |at: u32| buffer.get(..at as usize).is_some_and(|all| all.ends_with(b"\r\n"));
    for (place, field) in places.iter_mut().zip(parsed.headers.iter()) {
        *place = Place { name: within(field.name.as_bytes()), value: within(field.value) };
        if !ends_well(place.name.0) {
            return Err(BARE_LINE_END);
        }
    }
    if !buffer.get(..length).is_some_and(|all| all.ends_with(b"\r\n\r\n")) {
        return Err(BARE_LINE_END);
    }
    let line = Line {
        method: Method::from_bytes(method.as_bytes()).map_err(|_| NOT_HTTP)?,
        target: within(target.as_bytes()),
        version: if version == 0 { Version::HTTP_10 } else { Version::HTTP_11 },
    };
    Ok(Some(Found { line, fields: count, length }))
}

const NOT_HTTP: Refused = Refused::Broken("The request line is not one of HTTP/1");
const BARE_LINE_END: Refused = Refused::Broken("A line of the head does not end in CRLF");
const BAD_FIELD: Refused = Refused::Broken("A header field is not valid");

fn refusal(error: httparse::Error) -> Refused {
    match error {
        httparse::Error::TooManyHeaders => Refused::TooLarge,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => BAD_FIELD,
        httparse::Error::NewLine => BARE_LINE_END,
        httparse::Error::Version => Refused::Broken("The version is not HTTP/1.0 or HTTP/1.1"),
        httparse::Error::Token | httparse::Error::Status => NOT_HTTP,
    }
}

/// What the fields say of the body, of the connection and of the answer.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    expects: bool,
    trailers: bool,
}

fn read(bytes: &Bytes, line: Line, places: &[Place]) -> Result<Head, Refused> {
    let Line { method, target, version } = line;
    let target = bytes.slice(target.0 as usize..target.1 as usize);
    check_target(&method, &target)?;
    let uri = Uri::from_maybe_shared(target);
    let uri = uri.map_err(|_| Refused::Broken("The request's target is not valid"))?;
    let mut headers = HeaderMap::with_capacity(places.len());
    let mut said = Said::default();
    for place in places {
        let name = bytes.get(place.name.0 as usize..place.name.1 as usize).unwrap_or_default();
        let name = HeaderName::from_bytes(name).map_err(|_| BAD_FIELD)?;
        let value = bytes.slice(place.value.0 as usize..place.value.1 as usize);
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| BAD_FIELD)?;
        said.note(&name, &value)?;
        headers.append(name, value);
    }
    let framing = said.framing(version)?;
    let http10 = version == Version::HTTP_10;
    // Bytes behind a CONNECT are meant for a tunnel, and must never be read as requests when there
    // is none: a client may send what others have given it before it knows the answer.
    let more = method != Method::CONNECT;
    let asked = Asked {
        http10,
        head: method == Method::HEAD,
        keep_alive: more && !said.close && (said.keep_alive || !http10),
        trailers: said.trailers,
    };
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.headers_mut() = headers;
    // A client of HTTP/1.0 cannot mean it (RFC 9110, 10.1.1).
    let expects = said.expects && !http10 && framing != Framing::Length(0);
    Ok(Head { request, framing, asked, expects })
}

/// The four forms of a target (RFC 9112, 3.2), each with the methods that it goes with.
fn check_target(method: &Method, target: &[u8]) -> Result<(), Refused> {
    let fits = match target {
        _ if *method == Method::CONNECT => true,
        [b'/', ..] => true,
        b"*" => *method == Method::OPTIONS,
        _ => target.windows(3).any(|three| three == b"://"),
    };
    if !fits {
        return Err(Refused::Broken("The request's target has none of the forms of HTTP/1"));
    }
    if target.contains(&b'#') {
        return Err(Refused::Broken("The request's target has a fragment"));
    }
    Ok(())
}

impl Said {
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<(), Refused> {
        if *name == CONTENT_LENGTH {
            let length = digits(value.as_bytes());
            let length = length.ok_or(Refused::Broken("Content-Length is not a number"))?;
            if self.length.replace(length).is_some() {
                return Err(Refused::Broken("More than one Content-Length is present"));
            }
        } else if *name == TRANSFER_ENCODING {
            if self.chunked {
                return Err(Refused::Broken("More than one Transfer-Encoding is present"));
            }
            // Another coding would stay in the body after its name is gone.
            if !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Refused::Broken("Transfer-Encoding is not `chunked`"));
            }
            self.chunked = true;
        } else if *name == CONNECTION {
            for option in members(value) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if *name == EXPECT {
            self.expects |= value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        } else if *name == TE {
            self.trailers |= members(value).any(|coding| {
                let coding = coding.split(|byte| *byte == b';').next().unwrap_or_default();
                coding.trim_ascii().eq_ignore_ascii_case(b"trailers")
            });
        }
        Ok(())
    }

    /// How the body is delimited (RFC 9112, 6.3).
    fn framing(&self, version: Version) -> Result<Framing, Refused> {
        match self.length {
            Some(_) if self.chunked => {
                Err(Refused::Broken("Both Transfer-Encoding and Content-Length are present"))
            }
            None if self.chunked && version == Version::HTTP_10 => {
                Err(Refused::Broken("Transfer-Encoding is present in an HTTP/1.0 request"))
            }
            None if self.chunked => Ok(Framing::Chunked),
            length => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// The members of a list (RFC 9110, 5.6.1).
pub fn members(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests;
