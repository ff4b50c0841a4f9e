//! Real servers and clients of gRPC on both sides of the proxy: grpcio in Python and grpc-js in
//! Node.js. Their programs are in `tests/it/grpc`; they themselves in `target/python` and
//! `target/node`, where `tests/run.sh` puts them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::support::child;
use crate::support::proxy::{Builder, proxy};
use crate::support::{eventually, within};

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A program that runs until this is dropped, and the lines that it has written.
struct Program {
    process: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Program {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| {
            panic!("{command:?} cannot be run; tests/run.sh installs it: {error}")
        });
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (heard, out) = (Arc::clone(&lines), process.stdout.take().expect("a pipe"));
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { process, lines }
    }

    fn python(name: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(here("target/python/bin/python"));
        command.arg(here("tests/it/grpc").join(name)).args(arguments);
        Self::start(command)
    }

    /// The server in Python, and where it listens.
    async fn server() -> (Self, String) {
        let server = Self::python("server.py", &[]);
        let port = server.says("port").await;
        (server, format!("127.0.0.1:{}", port.first().expect("a port")))
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The words behind this first one, in the order in which they were said.
    fn said(&self, first: &str) -> Vec<String> {
        let lines = self.lines().into_iter();
        lines.filter_map(|line| Some(line.strip_prefix(first)?.trim().to_owned())).collect()
    }

    /// Waits until it has said something of this first word.
    async fn says(&self, first: &str) -> Vec<String> {
        eventually(first, || !self.said(first).is_empty()).await;
        self.said(first)
    }

    fn tell(&mut self, line: &str) {
        let input = self.process.stdin.as_mut().expect("a pipe");
        writeln!(input, "{line}").expect("it reads");
    }

    /// Waits for its good end, and gives what it has said.
    async fn done(mut self) -> Vec<String> {
        let process = &mut self.process;
        let mut status = None;
        eventually("the program to end", || {
            status = process.try_wait().expect("a process");
            status.is_some()
        })
        .await;
        assert!(status.is_some_and(|status| status.success()), "{:?}", self.lines());
        self.lines()
    }
}

/// A proxy between gRPC and gRPC, with these settings of its route and its upstream.
fn between(server: &str, settings: &str, of_upstream: &str) -> Builder {
    proxy(&format!(
        "upstreams: {{ back: {{ protocol: http2, endpoints: [\"{server}\"], {of_upstream} }} }}
routes: [{{ name: r, upstream: back, timeouts: {{ total: null }}, {settings} }}]
"
    ))
}

fn client(target: impl ToString, case: &str) -> Program {
    Program::python("client.py", &[&target.to_string(), case])
}

/// The time between two moments of the clock that all processes share, in milliseconds.
fn took(from: &str, to: &str) -> f64 {
    let second = |text: &str| text.parse::<f64>().expect("a time");
    (second(to) - second(from)) * 1000.0
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_call_passes_between_grpcio_and_grpcio_and_grpc_js() {
    let (_server, address) = Program::server().await;
    let proxy = between(&address, "", "").spawn().await;
    assert_eq!(client(proxy.address(), "kinds").done().await, ["ok"]);
    let mut node = Command::new("node");
    node.env("NODE_PATH", here("target/node/node_modules"));
    node.arg(here("tests/it/grpc/client.js")).arg(proxy.address().to_string());
    assert_eq!(Program::start(node).done().await, ["ok"]);
    let labels = "route=\"r\",service=\"test.Echo\",method=\"Both\",code=\"ok\"";
    assert_eq!(proxy.metric(&format!("outrigger_grpc_calls_total{{{labels}}}")), 2.0);
    let missing = "route=\"r\",service=\"other\",method=\"other\",code=\"unimplemented\"";
    assert_eq!(proxy.metric(&format!("outrigger_grpc_calls_total{{{missing}}}")), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_in_the_head_and_behind_it_are_tried_again() {
    let (server, address) = Program::server().await;
    let again = "circuit_breaker: { mode: off }, retry: { unsafe_methods: always, \
                 on: [grpc:unavailable], backoff: { base: 1ms, max: 1ms } }";
    let budget = "ejection: { mode: off }, retry_budget: { ratio: 100%, min_per_second: 100 }";
    let proxy = between(&address, again, budget).spawn().await;
    let got = client(proxy.address(), "fail").done().await;
    let count = |line: &str| got.iter().filter(|said| *said == line).count();
    assert_eq!(count("head at last"), 20, "{got:?}");
    // grpcio writes the head and the trailers in two writes. On a machine that is so busy that a
    // while lies between them, some of the second kind are passed on, as they came.
    let behind = count("trailers at last");
    assert_eq!(behind + count("trailers UNAVAILABLE not yet: \u{e9}"), 20, "{got:?}");
    assert!(behind > 0, "{got:?}");
    println!("tried again: {behind} of 20 whose failure stood in trailers");
    let attempts = server.said("attempt");
    assert_eq!(attempts.iter().filter(|line| line.ends_with(" 1")).count(), 20 + behind);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_a_status_with_details() {
    let proxy = between("127.0.0.1:1", "retry: { mode: off }", "").spawn().await;
    let got = client(proxy.address(), "refused").done().await;
    assert!(got[0].starts_with("UNAVAILABLE "), "{got:?}");
    let keys = "grpc-status-details-bin x-outrigger-reason";
    assert!(got[1].contains(keys), "{got:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_leaves_a_conversation_is_seen_to_leave_by_the_other() {
    let (server, address) = Program::server().await;
    let proxy = between(&address, "", "").spawn().await;
    let gone = client(proxy.address(), "cancel").done().await;
    let over = server.says("over").await;
    let left_at = gone[0].strip_prefix("leaving ").expect("a time");
    println!("the server saw the client leave after {:.1} ms", took(left_at, &over[0]));
    let left = client(proxy.address(), "left").done().await;
    let (code, at) = left[0].split_once(' ').expect("a status and a time");
    assert_eq!(code, "CANCELLED");
    println!(
        "the client saw the server leave after {:.1} ms",
        took(&server.said("leaving")[0], at)
    );
    eventually("nothing is left of the calls", || proxy.in_flight() == 0.0).await;
    // The first has no answer that would confirm its method; grpcio ends the second in trailers.
    for (service, method) in [("other", "other"), ("test.Echo", "Hang")] {
        let labels = format!("service=\"{service}\",method=\"{method}\",code=\"cancelled\"");
        let calls = format!("outrigger_grpc_calls_total{{route=\"r\",{labels}}}");
        assert_eq!(proxy.metric(&calls), 1.0, "{}", proxy.metrics());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_serves_no_more_is_not_chosen() {
    let (mut server, address) = Program::server().await;
    let check = "health_check: { grpc: { service: \"\" }, interval: 1s, timeout: 1s }";
    let fail_fast = "ejection: { when_all_ejected: fail_fast }, slow_start: 0s";
    let proxy = between(&address, "retry: { mode: off }", &format!("{check}, {fail_fast}"));
    let proxy = proxy.spawn().await;
    let healthy = format!("outrigger_endpoint_healthy{{upstream=\"back\",endpoint=\"{address}\"}}");
    assert_eq!(client(proxy.address(), "kinds").done().await, ["ok"]);
    server.tell("not serving");
    eventually("it is found unhealthy", || proxy.metric(&healthy) == 0.0).await;
    let refused = client(proxy.address(), "refused").done().await;
    assert!(refused[0].starts_with("UNAVAILABLE "), "{refused:?}");
    server.tell("serving");
    eventually("it is found healthy", || proxy.metric(&healthy) == 1.0).await;
    assert_eq!(client(proxy.address(), "kinds").done().await, ["ok"]);
}

/// How many messages a long conversation has; `OUTRIGGER_GRPC_MESSAGES` says how many instead.
const MESSAGES: usize = 20_000;

/// By how much the proxy may grow in a conversation after its first tenth: what its windows and its
/// allocator may still take, and no more for a longer one.
const GROWTH_MAX: u64 = 8 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_long_conversation_takes_bounded_memory() {
    let count = std::env::var("OUTRIGGER_GRPC_MESSAGES");
    let count = count.map_or(MESSAGES, |count| count.parse().expect("a number"));
    let (_server, address) = Program::server().await;
    let proxy = child::Child::start(&format!(
        "upstreams: {{ back: {{ protocol: http2, endpoints: [\"{address}\"] }} }}
routes: [{{ name: r, upstream: back, timeouts: {{ total: null }} }}]
"
    ))
    .await;
    let target = format!("unix:{}", proxy.socket().display());
    let count = count.to_string();
    let client = Program::python("client.py", &[&target, "many", &count]);
    client.says("passed").await;
    let (before, mut most) = (proxy.resident(), 0);
    // As long as it goes on, however long that is.
    let ended = async {
        let mut seen = 1;
        while client.said("took").is_empty() {
            let passed = client.said("passed").len();
            if passed > seen {
                most = most.max(proxy.resident());
                seen = passed;
            } else {
                within("more messages", async {
                    while client.said("passed").len() == passed && client.said("took").is_empty() {
                        outrigger::clock::sleep(std::time::Duration::from_millis(20)).await;
                    }
                })
                .await;
            }
        }
    };
    ended.await;
    most = most.max(proxy.resident());
    let took = client.done().await.pop().unwrap_or_default();
    println!("{count} messages: {took}; resident {before} bytes after a tenth, {most} at most");
    assert!(most <= before + GROWTH_MAX, "it grew from {before} to {most} bytes");
}
