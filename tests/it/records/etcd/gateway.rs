//! A few words with a member over the JSON form of its API, to do what no store would.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asks one question of a member that is there; the answer as JSON.
pub(crate) async fn ask(member: SocketAddr, path: &str, question: &str) -> serde_json::Value {
    try_ask(member, path, question).await.unwrap()
}

async fn try_ask(
    member: SocketAddr,
    path: &str,
    question: &str,
) -> std::io::Result<serde_json::Value> {
    let mut stream = TcpStream::connect(member).await?;
    let head = format!(
        "POST {path} HTTP/1.0\r\nhost: etcd\r\ncontent-length: {}\r\n\r\n{question}",
        question.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).map_err(std::io::Error::from)
}

/// The value of a key.
pub(crate) async fn get(member: SocketAddr, key: &str) -> Option<Vec<u8>> {
    let question = format!("{{\"key\":\"{}\"}}", encode(key.as_bytes()));
    let answer = ask(member, "/v3/kv/range", &question).await;
    answer["kvs"][0]["value"].as_str().map(decode)
}

/// Writes a key.
pub(crate) async fn put(member: SocketAddr, key: &str, value: &[u8]) {
    let (key, value) = (encode(key.as_bytes()), encode(value));
    let question = format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}");
    ask(member, "/v3/kv/put", &question).await;
}

/// Removes all keys that begin so.
pub(crate) async fn clear(member: SocketAddr, prefix: &str) {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    let (key, end) = (encode(prefix.as_bytes()), encode(&end));
    ask(member, "/v3/kv/deleterange", &format!("{{\"key\":\"{key}\",\"range_end\":\"{end}\"}}"))
        .await;
}

/// The numbers of the member and of the leader that it knows, as hexadecimal digits; nothing when
/// it does not answer.
pub(crate) async fn status(member: SocketAddr) -> Option<(String, String)> {
    let answer = try_ask(member, "/v3/maintenance/status", "{}").await.ok()?;
    let hex = |value: &serde_json::Value| {
        value.as_str().map(|digits| format!("{:x}", digits.parse::<u64>().unwrap()))
    };
    Some((hex(&answer["header"]["member_id"])?, hex(&answer["leader"])?))
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn encode(bytes: &[u8]) -> String {
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let group = part.iter().enumerate().map(|(n, byte)| u32::from(*byte) << (16 - 8 * n)).sum();
        let group: u32 = group;
        for n in 0..4 {
            let digit = DIGITS[(group >> (18 - 6 * n)) as usize & 63];
            text.push(if n > part.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

fn decode(text: &str) -> Vec<u8> {
    let (mut bytes, mut group, mut bits) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let digit = DIGITS.iter().position(|digit| *digit == byte).unwrap();
        group = group << 6 | u32::try_from(digit).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(group >> bits & 255).unwrap());
        }
    }
    bytes
}
