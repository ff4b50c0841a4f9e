//! The API over real sockets: a proxy, its admin listener, and a client of few lines.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::*;
use crate::config::ProcessEnvironment;
use crate::config::listener::Bind;
use crate::policy::retry::Suppressed;
use crate::server::accept::bind;
use crate::telemetry::metrics::Metrics;

mod changes;
mod looks;

/// A test that waits this long for an answer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// The part of the file that all tests share.
const FILE: &str = r#"
listeners: [{ name: egress, bind: "127.0.0.1:0" }]
telemetry: { access_log: { to: none } }
upstreams:
  payments: { endpoints: ["127.0.0.1:9001", { address: "127.0.0.1:9002", weight: 2, zone: b }] }
  spare: { endpoints: ["127.0.0.1:9003"] }
routes:
  - name: pay
    match: { host: payments.internal }
    upstreams: [{ name: payments, weight: 3 }, { name: spare, weight: 1 }]
    headers: { request: { set: { authorization: Bearer hidden-value } } }
  - name: watched
    match: { host: watched.internal }
    upstream: spare
    circuit_breaker: { mode: observe }
"#;

/// A proxy with its admin listener, and a folder for its files.
struct Served {
    proxy: Arc<Proxy>,
    address: SocketAddr,
    folder: tempfile::TempDir,
    runtime: Runtime,
    serving: JoinHandle<()>,
}

/// An answer: status, head and body.
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Served {
    /// Serves [`FILE`] with these settings of `admin`, in which `{folder}` is a folder of its own.
    fn with(admin: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let admin = admin.replace("{folder}", folder.path().to_str().unwrap());
        let text = format!("admin: {{ {admin} }}\n{FILE}");
        let file = folder.path().join("outrigger.yaml");
        std::fs::write(&file, &text).unwrap();
        let metrics = Arc::new(Metrics::new(Suppressed::NAMES));
        let environment = Box::new(ProcessEnvironment);
        let proxy = Proxy::start(&text, Some(file), environment, metrics, None);
        let proxy = Arc::new(proxy.unwrap_or_else(|problems| panic!("{problems:?}")));
        let runtime = Runtime::new().unwrap();
        let socket = bind(&Bind::Tcp("127.0.0.1:0".to_owned()), None).unwrap();
        let Socketed::Tcp(_, address) = &socket else { panic!("it is TCP") };
        let address = *address;
        let serving = runtime.spawn(serve(socket, Arc::clone(&proxy)));
        Self { proxy, address, folder, runtime, serving }
    }

    /// With a token, which is `let-me`.
    fn with_token() -> Self {
        let served = Self::with("token_file: '{folder}/token'");
        std::fs::write(served.folder.path().join("token"), "let-me\n").unwrap();
        served
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("outrigger.yaml")
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// One request with these further header lines.
    fn ask(&self, line: &str, fields: &[&str]) -> Got {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        exchange(self.connect(), &format!("{line} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n"))
    }

    fn get(&self, path: &str) -> Got {
        self.ask(&format!("GET {path}"), &[])
    }

    fn json(&self, path: &str) -> Value {
        let got = self.get(path);
        assert_eq!(got.status, 200, "{path}: {}", got.body);
        got.json()
    }

    /// A change with the right token.
    fn change(&self, path: &str) -> Got {
        self.ask(&format!("POST {path}"), &["authorization: Bearer let-me"])
    }
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn detail(&self) -> String {
        self.json()["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends a request and reads until the other side closes, as it does after each answer.
fn exchange(mut stream: impl Read + Write, request: &str) -> Got {
    stream.write_all(request.as_bytes()).unwrap();
    read(stream)
}

fn read(mut stream: impl Read) -> Got {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {text}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Got { status, head: head.to_owned(), body: body.to_owned() }
}

#[test]
fn above_the_limit_connections_wait_in_the_queue_until_a_place_is_free() {
    let served = Served::with("max_connections: 1");
    let holder = served.connect();
    let mut waiter = served.connect();
    waiter.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    waiter.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let early = waiter.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(early.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut));
    drop(holder);
    waiter.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(read(waiter).status, 200);
}

#[test]
fn a_connection_has_one_request() {
    let served = Served::with("");
    let twice = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(2);
    let got = exchange(served.connect(), &twice);
    assert_eq!((got.status, got.body.as_str()), (200, "alive\n"), "one answer, then the end");
    assert_eq!(got.field("connection"), Some("close"));
}

#[test]
fn heads_and_bodies_are_bounded() {
    let served = Served::with("");
    let long = format!("x-long: {}", "a".repeat(HEAD_BYTES));
    assert_eq!(served.ask("GET /healthz", &[&long]).status, 431);
    let many: Vec<String> = (0..=HEADERS_MAX).map(|n| format!("x-{n}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(served.ask("GET /healthz", &many).status, 431);
    let body = |length: usize| {
        let head = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}");
        exchange(served.connect(), &format!("{head}\r\n\r\n{}", "b".repeat(length))).status
    };
    assert_eq!(body(BODY_BYTES), 200);
    assert_eq!(body(BODY_BYTES + 1), 413);
}

#[test]
fn a_unix_socket_serves_and_is_removed_at_the_end() {
    let served = Served::with_token();
    let path = served.folder.path().join("admin.sock");
    let socket = bind(&Bind::Unix(path.clone()), None).unwrap();
    let serving = served.runtime.spawn(serve(socket, Arc::clone(&served.proxy)));
    let ask = |line: &str| {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = "authorization: Bearer let-me";
        // Nobody but a local process comes this way, so any host will do.
        exchange(stream, &format!("{line} HTTP/1.1\r\nhost: admin\r\n{token}\r\n\r\n"))
    };
    assert_eq!(ask("GET /readyz").status, 200);
    assert_eq!(ask("POST /breakers/pay/isolate").status, 200);
    serving.abort();
    assert!(served.runtime.block_on(serving).unwrap_err().is_cancelled());
    assert!(!Path::new(&path).exists());
}

#[test]
fn the_listener_ends_with_its_future() {
    let served = Served::with("");
    let held = served.connect();
    assert_eq!(served.get("/healthz").status, 200);
    served.serving.abort();
    assert!(served.runtime.block_on(served.serving).unwrap_err().is_cancelled());
    let mut rest = Vec::new();
    // The end or a reset: in either case nobody serves it any more.
    let _ = (&held).read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert!(TcpStream::connect(served.address).is_err());
}
