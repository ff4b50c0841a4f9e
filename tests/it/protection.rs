//! The proxy refuses work before it fails itself, the lowest tiers first, and its operator is
//! answered throughout.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::support::PATIENCE;
use crate::support::child::{Child, ask, ask_as};
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::eventually;

/// How the operator sees it.
#[derive(Debug)]
struct Shown {
    /// Refused tiers, of four.
    refused: u64,
    /// The pressure and the use of the resource in question.
    pressure: f64,
    usage: f64,
}

async fn shown(child: &Child, resource: &str) -> Shown {
    let answer = ask(&child.admin(), "/protection").await;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("cut: {answer}"));
    let page: serde_json::Value = serde_json::from_str(body).unwrap();
    let all = page["resources"].as_array().unwrap().iter();
    let one = all.clone().find(|one| one["resource"] == resource).unwrap();
    let refused = page["refused_tiers"].as_u64().unwrap();
    let number = |key: &str| one[key].as_f64().unwrap_or(0.0);
    Shown { refused, pressure: number("pressure"), usage: number("usage") }
}

/// Health is told whatever happens to clients.
async fn is_alive(child: &Child) {
    for path in ["/healthz", "/readyz"] {
        let answer = ask(&child.admin(), path).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
}

async fn is_refused(child: &Child) -> bool {
    is_refused_as(child, "default").await
}

async fn is_refused_as(child: &Child, tier: &str) -> bool {
    let answer = ask_as(&child.socket(), "/now", tier).await;
    let refused = answer.contains("x-outrigger-reason: self_protection");
    assert!(
        refused || answer.starts_with("HTTP/1.1 200 "),
        "neither served nor refused for this reason: {answer}\n{}",
        child.said()
    );
    refused
}

/// An upstream that never answers but for `/now`.
async fn service() -> Service {
    Service::start(|seen| if seen.path == "/now" { status(200) } else { Act::Hang }).await
}

fn config(service: &Service, runtime: &str) -> String {
    format!(
        "runtime: {{ workers: 1, {runtime} }}\n\
         upstreams: {{ u: {{ endpoints: [\"{}\"], concurrency: {{ mode: off }} }} }}\n\
         routes: [{{ name: r, upstream: u, timeouts: {{ total: 1h }} }}]\n",
        service.address
    )
}

/// Sends what stays with the proxy for as long as the connection is held.
async fn held(child: &Child, bytes: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(child.socket()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// The tiers, the highest first.
const TIERS: [&str; 4] = ["critical", "default", "degraded", "sheddable"];

const HANGING: &[u8] = b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn short_of_descriptors_the_lowest_tiers_go_first_and_all_come_back() {
    let service = service().await;
    let child = Child::with_descriptors(400, &config(&service, "max_memory: null")).await;
    assert!(!is_refused(&child).await);
    let mut connections = Vec::new();
    let mut served_under_pressure = 0;
    let at_first = shown(&child, "descriptors").await.usage;
    loop {
        // Each holds two descriptors, of four hundred: the client's and the upstream's.
        connections.push(held(&child, HANGING).await);
        connections.push(held(&child, HANGING).await);
        let held = connections.len();
        assert!(held < 200, "so many descriptors and none short");
        if held < 120 {
            continue;
        }
        let least = at_first + (2 * held - 4) as f64 / 400.0;
        let so = async || shown(&child, "descriptors").await.usage >= least;
        eventually("it is counted", so).await;
        is_alive(&child).await;
        // What is the same before and after was so in between: it does not fall so soon.
        let before = shown(&child, "descriptors").await.refused;
        let mut refused = Vec::new();
        for tier in TIERS {
            refused.push(is_refused_as(&child, tier).await);
        }
        let after = shown(&child, "descriptors").await.refused;
        if before == after {
            let expected: Vec<_> = (0..4).map(|tier| tier + before >= 4).collect();
            assert_eq!(refused, expected, "{TIERS:?} when {before} are refused");
            served_under_pressure += usize::from((1..=2).contains(&before));
        }
        if refused[1] {
            break;
        }
    }
    assert!(served_under_pressure > 0, "lower tiers come first");
    eventually("the default tier is refused", async || is_refused(&child).await).await;
    let answer = ask(&child.socket(), "/now").await;
    assert!(answer.contains("connection: close") && answer.contains("retry-after: "), "{answer}");
    child.says("self-protection changed what is refused").await;
    drop(connections);
    eventually("all are served again", async || !is_refused(&child).await).await;
    eventually("no tier is refused", async || shown(&child, "descriptors").await.refused == 0)
        .await;
    is_alive(&child).await;
}

#[tokio::test]
async fn clients_cannot_take_the_operator_s_descriptors() {
    let service = service().await;
    let child = Child::with_descriptors(200, &config(&service, "max_memory: null")).await;
    let mut halves = Vec::new();
    for _ in 0..400 {
        // Those for whom there is no descriptor are closed on, perhaps while they write.
        if let Ok(mut stream) = UnixStream::connect(child.socket()).await {
            let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: ").await;
            halves.push(stream);
        }
        if halves.len() % 20 == 0 {
            is_alive(&child).await;
        }
    }
    eventually("all is refused", async || shown(&child, "descriptors").await.refused == 4).await;
    is_alive(&child).await;
    let lines = child.said().matches("cannot accept").count();
    assert!(lines <= 1 + PATIENCE.as_secs() as usize, "{lines} lines of log");
    drop(halves);
    eventually("served again", async || {
        ask(&child.socket(), "/now").await.starts_with("HTTP/1.1 200 ")
    })
    .await;
}

#[tokio::test]
async fn idle_connections_are_closed_when_descriptors_are_short() {
    let service = service().await;
    let child = Child::with_descriptors(200, &config(&service, "max_memory: null")).await;
    let mut idle = Vec::new();
    for _ in 0..185 {
        let Ok(stream) = UnixStream::connect(child.socket()).await else { break };
        idle.push(stream);
    }
    let mut first = idle.remove(0);
    let mut byte = [0];
    // A minute is what it may usually be idle; the bound of the test is far below.
    let closed = tokio::time::timeout(Duration::from_secs(30), first.read(&mut byte)).await;
    assert_eq!(closed.expect("it is closed soon").unwrap_or(0), 0);
    eventually("served again", async || !is_refused(&child).await).await;
}

#[tokio::test]
async fn short_of_memory_it_refuses_until_there_is_some_again() {
    let service = service().await;
    let child = Child::start(&config(&service, "max_memory: 40MiB")).await;
    assert!(!is_refused(&child).await);
    let body = vec![b'x'; 60 * 1024];
    let head = format!("POST /hang HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    let request = [head.as_bytes(), &body].concat();
    let mut connections = Vec::new();
    // The body of each is kept for another attempt.
    while !is_refused(&child).await {
        connections.push(held(&child, &request).await);
        assert!(connections.len() < 2000, "so many bodies and no memory short");
        if connections.len() % 20 == 0 {
            is_alive(&child).await;
        }
    }
    assert!(shown(&child, "memory").await.pressure > 0.0);
    assert!(connections.len() > 20, "refused with {} bodies held", connections.len());
    is_alive(&child).await;
    drop(connections);
    // Allocators give nothing back; what nobody needs must not be in the way.
    eventually("served again", async || !is_refused(&child).await).await;
    // Without a limit it is not watched.
    child.write(&config(&service, "max_memory: null"));
    child.signal("HUP");
    eventually("no pressure", async || shown(&child, "memory").await.pressure == 0.0).await;
}
