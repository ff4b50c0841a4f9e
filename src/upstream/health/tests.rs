use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use hyper::service::service_fn;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::units::Period;

/// The failure case of every wait, and the timeout of checks that are answered.
const PATIENCE: Period = Period::from_secs(20);

/// The requests that a server has seen, without bodies.
type Seen = Arc<Mutex<Vec<Request<()>>>>;

fn settings(path: &str, expect: &str) -> Settings {
    Settings {
        path: path.to_owned(),
        timeout: PATIENCE,
        expect: expect.parse().unwrap(),
        ..Settings::default()
    }
}

/// In the clear.
fn plain(http2: bool) -> Speak<'static> {
    let protocol = if http2 { Protocol::Http2 } else { Protocol::Http1 };
    Speak { protocol, proxy_protocol: None, tls: None }
}

fn tcp(listener: &TcpListener) -> EndpointAddress {
    EndpointAddress::Tcp(listener.local_addr().unwrap())
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// Serves one connection: the status is the last part of the path.
async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    http2: bool,
    seen: Seen,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let status = request.uri().path().rsplit('/').next().unwrap().parse::<u16>().unwrap();
        seen.lock().unwrap().push(request.map(|_| ()));
        let answer = Response::builder().status(status).body(Empty::<Bytes>::new()).unwrap();
        async move { Ok::<_, Infallible>(answer) }
    });
    let io = TokioIo::new(stream);
    // The peer may go away before the answer is written; that is its right.
    let _ = if http2 {
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
    };
}

/// A server of one connection, whose task ends when that connection is closed.
async fn server(http2: bool) -> (EndpointAddress, Seen, JoinHandle<()>) {
    let listener = listen().await;
    let (address, seen) = (tcp(&listener), Seen::default());
    let requests = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, http2, requests).await;
    });
    (address, seen, task)
}

async fn in_time<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE.get(), wait).await.expect("this takes too long")
}

#[tokio::test]
async fn the_status_decides_in_both_protocols_and_the_connection_is_closed() {
    for http2 in [false, true] {
        for (status, expect, good) in [
            (200, "200-299", true),
            (299, "200-299", true),
            (300, "200-299", false),
            (503, "200-299", false),
            (503, "503", true),
            (204, "200", false),
        ] {
            let (address, _, task) = server(http2).await;
            let settings = settings(&format!("/health/{status}"), expect);
            let result = check(&address, &settings, "pay.test:80", plain(http2)).await;
            assert_eq!(result.is_ok(), good, "{status} {expect} {http2} {result:?}");
            if let Err(error) = result {
                assert_eq!(error, format!("the answer's status is {status}, not {expect}"));
            }
            in_time(task).await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_request_names_the_host_the_path_and_the_checker() {
    for http2 in [false, true] {
        let (address, seen, _task) = server(http2).await;
        let settings = settings("/a/b/200?deep=1", "200");
        check(&address, &settings, "pay.test:81", plain(http2)).await.unwrap();
        let seen = seen.lock().unwrap();
        let [request] = seen.as_slice() else { panic!("one request, not {seen:?}") };
        assert_eq!(request.method(), Method::GET);
        assert_eq!(request.uri().path_and_query().unwrap(), "/a/b/200?deep=1");
        assert_eq!(request.headers()[header::USER_AGENT], "outrigger-health");
        if http2 {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.uri().authority().unwrap(), "pay.test:81");
            assert!(!request.headers().contains_key(header::CONNECTION));
        } else {
            assert_eq!(request.version(), Version::HTTP_11);
            assert_eq!(request.headers()[header::HOST], "pay.test:81");
            assert_eq!(request.headers()[header::CONNECTION], "close");
        }
    }
}

#[tokio::test]
async fn a_unix_socket_is_asked_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let task = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, false, Seen::default()).await;
    });
    let address = EndpointAddress::Unix(path.clone());
    check(&address, &settings("/200", "200"), "localhost", plain(false)).await.unwrap();
    in_time(task).await.unwrap();
    let error =
        check(&address, &settings("/200", "200"), "localhost", plain(false)).await.unwrap_err();
    assert!(error.contains(&format!("cannot connect to unix:{}", path.display())), "{error}");
}

#[tokio::test]
async fn a_refused_connection_is_named() {
    // Bound and not listening: nobody else gets the port, and nobody answers there.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = EndpointAddress::Tcp(socket.local_addr().unwrap());
    let error =
        check(&address, &settings("/200", "200"), "pay.test", plain(false)).await.unwrap_err();
    assert!(error.starts_with(&format!("cannot connect to {address}: ")), "{error}");
}

/// Accepts one connection, says what it is told to, and reports when the peer has closed.
async fn speaks(bytes: &'static [u8]) -> (EndpointAddress, mpsc::Receiver<()>) {
    let listener = listen().await;
    let address = tcp(&listener);
    let (closed, closing) = mpsc::channel(1);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = [0; 1024];
        while !matches!(stream.read(&mut rest).await, Ok(0) | Err(_)) {}
        closed.send(()).await.unwrap();
    });
    (address, closing)
}

#[tokio::test]
async fn an_endpoint_that_stays_silent_has_failed_in_time_and_is_hung_up_on() {
    for http2 in [false, true] {
        let (address, mut closed) = speaks(b"").await;
        let timeout = Period::from_millis(50);
        let settings = Settings { timeout, ..settings("/200", "200") };
        let result = in_time(check(&address, &settings, "pay.test", plain(http2))).await;
        assert_eq!(result, Err("no answer within 50ms".to_owned()));
        in_time(closed.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn only_the_head_is_read() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nfirst bytes";
    let (address, mut closed) = speaks(head).await;
    in_time(check(&address, &settings("/200", "200"), "pay.test", plain(false))).await.unwrap();
    in_time(closed.recv()).await.unwrap();
}

#[tokio::test]
async fn what_is_not_http_has_failed() {
    let (address, _closed) = speaks(b"220 smtp.test ESMTP ready\r\n").await;
    let result = in_time(check(&address, &settings("/200", "200"), "pay.test", plain(false))).await;
    let error = result.unwrap_err();
    assert!(error.starts_with("the request failed: "), "{error}");
}

#[tokio::test]
async fn an_endpoint_that_hangs_up_has_failed() {
    for http2 in [false, true] {
        let listener = listen().await;
        let address = tcp(&listener);
        let task = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
        let settings = settings("/200", "200");
        let result = in_time(check(&address, &settings, "pay.test", plain(http2))).await;
        let error = result.unwrap_err();
        assert!(error.starts_with("the request failed: "), "{error}");
        task.await.unwrap();
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_made_connects_to_nothing() {
    let address = EndpointAddress::Unix("/nonexistent".into());
    for (path, host) in [("healthz", "pay.test"), ("/a b", "pay.test"), ("/", "pay\n.test")] {
        for http2 in [false, true] {
            let result = check(&address, &settings(path, "200"), host, plain(http2)).await;
            let error = result.unwrap_err();
            assert!(error.contains("is not a valid request"), "{error}");
        }
    }
}
