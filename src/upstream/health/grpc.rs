//! A check in gRPC's own health protocol: one call of `grpc.health.v1.Health/Check`.
//!
//! Its two messages have one field each, so they are written and read by hand.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{MAX_HEAD, Stream, USER_AGENT, drive, said};

/// The method that is called.
const PATH: &str = "/grpc.health.v1.Health/Check";

/// `SERVING` of `HealthCheckResponse.ServingStatus`: the only good one.
const SERVING: u64 = 1;

/// The bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// The most bytes of an answer that are read. One has a dozen.
const MAX_ANSWER: usize = 1024;

/// The request of a check.
pub(super) fn request(
    service: &str,
    host: &str,
    tls: bool,
) -> Result<Request<Full<Bytes>>, String> {
    // What other clients of gRPC call a socket of Unix.
    let host = if host.starts_with("unix:") { "localhost" } else { host };
    let scheme = if tls { "https" } else { "http" };
    let invalid = |why: http::Error| format!("a check at host `{host}` is not valid: {why}");
    let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(PATH).build();
    Request::builder()
        .method(Method::POST)
        .version(Version::HTTP_2)
        .uri(uri.map_err(invalid)?)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(header::TE, HeaderValue::from_static("trailers"))
        .body(Full::from(asked(service)))
        .map_err(invalid)
}

/// A `HealthCheckRequest`, with the prefix of a message. A field that is empty is not written.
fn asked(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(&mut message, service.len() as u64);
        message.extend_from_slice(service.as_bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.append(&mut message);
    framed
}

/// Makes the call, and says why it does not find the service serving.
pub(super) async fn ask(stream: Stream, request: Request<Full<Bytes>>) -> Result<(), String> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_header_list_size(MAX_HEAD as u32);
    let shaken = builder.handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| said(&error))?;
    let answer = async {
        let mut answer = sender.send_request(request).await?;
        let mut read = Read { status: answer.status(), ..Read::default() };
        read.fields(answer.headers());
        while let Some(frame) = answer.body_mut().frame().await {
            match frame?.into_data() {
                Ok(piece) => read.message.extend_from_slice(&piece),
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        read.fields(&trailers);
                    }
                }
            }
            if read.message.len() > MAX_ANSWER {
                break;
            }
        }
        Ok(read)
    };
    let read: hyper::Result<Read> = drive(answer, connection).await;
    read.map_err(|error| said(&error))?.verdict()
}

/// What was read of an answer.
#[derive(Debug, Default)]
struct Read {
    status: StatusCode,
    code: Option<HeaderValue>,
    words: Option<HeaderValue>,
    message: Vec<u8>,
}

impl Read {
    /// Takes the status of the call from the head or the trailers.
    fn fields(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get("grpc-status") {
            self.code = Some(code.clone());
            self.words = headers.get("grpc-message").cloned();
        }
    }

    fn verdict(&self) -> Result<(), String> {
        if self.status != StatusCode::OK {
            return Err(format!("the answer's status is {}, not 200", self.status.as_u16()));
        }
        match text(self.code.as_ref()).as_str() {
            "0" => {}
            "" => return Err("the answer has no gRPC status".to_owned()),
            "5" => return Err("the endpoint does not know the service (NOT_FOUND)".to_owned()),
            "12" => {
                let wanted = "the endpoint does not serve grpc.health.v1.Health (UNIMPLEMENTED)";
                return Err(wanted.to_owned());
            }
            code => return Err(format!("the call failed: {code} {}", text(self.words.as_ref()))),
        }
        match self.serving() {
            Some(SERVING) => Ok(()),
            Some(0) => Err("the service's health is UNKNOWN".to_owned()),
            Some(2) => Err("the service is NOT_SERVING".to_owned()),
            Some(other) => Err(format!("the service's health is {other}, not SERVING")),
            None => Err("the answer is no HealthCheckResponse".to_owned()),
        }
    }

    /// The status in a `HealthCheckResponse`; 0 where it is not written. Fields that are not known
    /// are passed over.
    fn serving(&self) -> Option<u64> {
        let (prefix, mut message) = self.message.split_at_checked(PREFIX)?;
        let (compressed, length) = prefix.split_first()?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        if *compressed != 0 || usize::try_from(length).ok()? != message.len() {
            return None;
        }
        let mut status = 0;
        while !message.is_empty() {
            let key = take_varint(&mut message)?;
            match (key >> 3, key & 7) {
                (1, 0) => status = take_varint(&mut message)?,
                (_, 0) => {
                    take_varint(&mut message)?;
                }
                (_, 1) => message = message.get(8..)?,
                (_, 2) => {
                    let length = usize::try_from(take_varint(&mut message)?).ok()?;
                    message = message.get(length..)?;
                }
                (_, 5) => message = message.get(4..)?,
                _ => return None,
            }
        }
        Some(status)
    }
}

fn text(value: Option<&HeaderValue>) -> String {
    let value = value.map(HeaderValue::as_bytes).unwrap_or_default();
    String::from_utf8_lossy(value).into_owned()
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests;
