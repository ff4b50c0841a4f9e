use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_resolver::proto::op::{Message, OpCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME};
use hickory_resolver::proto::rr::{RData, Record};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::*;

/// The failure case of every wait; no test that passes waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

/// Long enough for an answer over loopback on a busy machine.
const SHORT_TIMEOUT: Duration = Duration::from_millis(700);

/// What the test's name server does with a question.
#[derive(Clone)]
enum Reply {
    Records(Vec<(RData, u32)>),
    Code(ResponseCode),
    Silence,
}

type Zone = HashMap<(String, RecordType), Reply>;

/// A name server on loopback that answers from a table which the test changes; a question that is
/// not in the table is answered with NXDOMAIN.
struct Server {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    questions: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start() -> Self {
        let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone: Arc<Mutex<Zone>> = Arc::default();
        let (asked, questions) = watch::channel(0);
        let table = Arc::clone(&zone);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let query = &question.queries[0];
                let key = (query.name().to_ascii().to_lowercase(), query.query_type());
                asked.send_modify(|count| *count += 1);
                let reply = table.lock().unwrap().get(&key).cloned();
                if let Some(packet) = packet(&question, reply) {
                    socket.send_to(&packet, from).await.unwrap();
                }
            }
        });
        Self { address, zone, questions, task }
    }

    fn set(&self, name: &str, kind: RecordType, reply: Reply) {
        self.zone.lock().unwrap().insert((name.to_owned(), kind), reply);
    }

    /// IPv4 addresses and no IPv6 address, or NXDOMAIN if there is no address at all.
    fn set_v4(&self, name: &str, last: &[u8]) {
        let reply = match last {
            [] => Reply::Code(ResponseCode::NXDomain),
            last => Reply::Records(last.iter().map(|last| (v4(*last), 0)).collect()),
        };
        self.set(name, RecordType::A, reply);
        self.set(name, RecordType::AAAA, Reply::Code(ResponseCode::NXDomain));
    }

    fn questions(&self) -> usize {
        *self.questions.borrow()
    }

    fn resolver(&self) -> Resolver {
        let mut resolver = Resolver::asking(self.address, SHORT_TIMEOUT).unwrap();
        resolver.has_route = |_| true;
        resolver
    }
}

fn packet(question: &Message, reply: Option<Reply>) -> Option<Vec<u8>> {
    let query = question.queries[0].clone();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.recursion_available = true;
    let mut owner = query.name().clone();
    answer.add_query(query);
    match reply.unwrap_or(Reply::Code(ResponseCode::NXDomain)) {
        Reply::Silence => return None,
        Reply::Code(code) => answer.metadata.response_code = code,
        Reply::Records(records) => {
            for (data, ttl) in records {
                let next =
                    if let RData::CNAME(CNAME(name)) = &data { Some(name.clone()) } else { None };
                answer.add_answer(Record::from_rdata(owner.clone(), ttl, data));
                owner = next.unwrap_or(owner);
            }
        }
    }
    Some(answer.to_vec().unwrap())
}

fn v4(last: u8) -> RData {
    RData::A(A(Ipv4Addr::new(127, 0, 0, last)))
}

fn v6(last: u16) -> RData {
    RData::AAAA(AAAA(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last)))
}

fn ips(text: &[&str]) -> Vec<IpAddr> {
    text.iter().map(|ip| ip.parse().unwrap()).collect()
}

#[tokio::test]
async fn both_families_are_merged_and_the_shortest_ttl_counts() {
    let server = Server::start().await;
    server.set("pay.test.", RecordType::A, Reply::Records(vec![(v4(2), 60), (v4(1), 40)]));
    server.set("pay.test.", RecordType::AAAA, Reply::Records(vec![(v6(1), 50)]));
    let mut answer = server.resolver().lookup("PAY.test").await.unwrap();
    assert_eq!(answer.ttl, Duration::from_secs(40));
    assert!(answer.addresses[2].is_ipv6(), "{answer:?}");
    answer.addresses.sort_unstable();
    assert_eq!(answer.addresses, ips(&["127.0.0.1", "127.0.0.2", "fd00::1"]));
}

#[tokio::test]
async fn an_alias_is_followed_and_its_ttl_counts() {
    let server = Server::start().await;
    let alias = || (RData::CNAME(CNAME(Name::from_ascii("real.test.").unwrap())), 7);
    server.set("pay.test.", RecordType::A, Reply::Records(vec![alias(), (v4(9), 90)]));
    let answer = server.resolver().lookup("pay.test").await.unwrap();
    assert_eq!(answer.addresses, ips(&["127.0.0.9"]));
    assert_eq!(answer.ttl, Duration::from_secs(7));
}

#[tokio::test]
async fn every_lookup_asks_the_name_server_whatever_the_ttl() {
    let server = Server::start().await;
    let resolver = server.resolver();
    for last in 1..=5 {
        server.set("pay.test.", RecordType::A, Reply::Records(vec![(v4(last), 3600)]));
        let answer = resolver.lookup("pay.test").await.unwrap();
        assert_eq!(answer.addresses, [IpAddr::from([127, 0, 0, last])]);
        assert_eq!(answer.ttl, Duration::from_secs(3600));
    }
    server.set_v4("pay.test.", &[]);
    assert_eq!(resolver.lookup("pay.test").await, Err(Failure::NoSuchName));
    server.set_v4("pay.test.", &[1]);
    assert!(resolver.lookup("pay.test").await.is_ok(), "a failure is not cached either");
}

#[tokio::test]
async fn failures_are_told_apart() {
    let server = Server::start().await;
    for (reply, expected) in [
        (Reply::Code(ResponseCode::NXDomain), Failure::NoSuchName),
        (Reply::Records(vec![]), Failure::Empty),
        (Reply::Silence, Failure::Timeout),
    ] {
        server.set("pay.test.", RecordType::A, reply.clone());
        server.set("pay.test.", RecordType::AAAA, reply);
        assert_eq!(server.resolver().lookup("pay.test").await, Err(expected));
    }
    for code in [ResponseCode::ServFail, ResponseCode::Refused] {
        server.set("pay.test.", RecordType::A, Reply::Code(code));
        server.set("pay.test.", RecordType::AAAA, Reply::Code(code));
        let failure = server.resolver().lookup("pay.test").await.unwrap_err();
        assert_eq!(failure, Failure::Rejected(code.to_string()));
    }
    let before = server.questions();
    let failure = server.resolver().lookup(&"a".repeat(64)).await.unwrap_err();
    assert!(matches!(failure, Failure::BadName(_)), "{failure:?}");
    assert_eq!(server.questions(), before);
}

#[tokio::test]
async fn one_family_is_enough_whatever_happens_to_the_other() {
    let server = Server::start().await;
    for other in [
        Reply::Code(ResponseCode::NXDomain),
        Reply::Code(ResponseCode::ServFail),
        Reply::Records(vec![]),
        Reply::Silence,
    ] {
        server.set("pay.test.", RecordType::A, Reply::Records(vec![(v4(1), 5)]));
        server.set("pay.test.", RecordType::AAAA, other.clone());
        let answer = server.resolver().lookup("pay.test").await.unwrap();
        assert_eq!(answer.addresses, ips(&["127.0.0.1"]));
        server.set("pay.test.", RecordType::A, other);
        server.set("pay.test.", RecordType::AAAA, Reply::Records(vec![(v6(1), 5)]));
        let answer = server.resolver().lookup("pay.test").await.unwrap();
        assert_eq!(answer.addresses, ips(&["fd00::1"]));
    }
}

#[tokio::test]
async fn literals_and_localhost_are_not_asked_for() {
    let server = Server::start().await;
    let resolver = server.resolver();
    assert_eq!(resolver.lookup("10.1.2.3").await.unwrap().addresses, ips(&["10.1.2.3"]));
    assert_eq!(resolver.lookup("fd00::1").await.unwrap().addresses, ips(&["fd00::1"]));
    let local = resolver.lookup("localhost").await.unwrap();
    assert_eq!(local.addresses, ips(&["127.0.0.1", "::1"]));
    assert_eq!(server.questions(), 0);
}

#[tokio::test]
async fn the_hosts_file_goes_first_and_is_read_again_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let (resolv_conf, hosts) = (folder.path().join("resolv.conf"), folder.path().join("hosts"));
    fs::write(&resolv_conf, "nameserver 127.0.0.1\nsearch corp.test\noptions ndots:5\n").unwrap();
    fs::write(&hosts, "127.0.0.7 db pay.internal\nfd00::7 db\n").unwrap();
    let mut resolver = Resolver::from_files(resolv_conf, hosts.clone()).unwrap();
    resolver.has_route = |_| true;
    let answer = resolver.lookup("DB").await.unwrap();
    assert_eq!(answer.addresses, ips(&["127.0.0.7", "fd00::7"]));
    assert_eq!(resolver.lookup("pay.internal").await.unwrap().addresses, ips(&["127.0.0.7"]));
    fs::write(&hosts, "127.0.0.88 db pay.internal\n").unwrap();
    assert_eq!(resolver.lookup("db").await.unwrap().addresses, ips(&["127.0.0.88"]));
}

#[tokio::test]
async fn a_machine_without_settings_still_has_its_own_names() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    let mut resolver = Resolver::from_files(missing.clone(), missing).unwrap();
    resolver.has_route = |ip| ip.is_ipv4();
    assert_eq!(resolver.lookup("localhost").await.unwrap().addresses, ips(&["127.0.0.1"]));
}

#[test]
fn a_family_without_a_route_is_left_out_only_if_the_other_has_one() {
    let both = ips(&["fd00::1", "127.0.0.1", "fd00::2"]);
    let in_order = ips(&["127.0.0.1", "fd00::1", "fd00::2"]);
    assert_eq!(usable(both.clone(), |_| true), in_order);
    assert_eq!(usable(both.clone(), |_| false), in_order);
    assert_eq!(usable(both.clone(), |ip| ip.is_ipv4()), ips(&["127.0.0.1"]));
    assert_eq!(usable(both.clone(), |ip| ip.is_ipv6()), ips(&["fd00::1", "fd00::2"]));
    assert_eq!(usable(both, |ip| ip == ips(&["fd00::2"])[0]), ips(&["fd00::1", "fd00::2"]));
    assert_eq!(usable(ips(&["fd00::1"]), |_| false), ips(&["fd00::1"]));
    assert!(has_route(Ipv4Addr::LOCALHOST.into()));
}

/// Keeps `pay.test` resolved and hands what is published to the test.
fn keep(server: &Server, keep_last_good: Duration) -> Kept {
    let (sender, sets) = mpsc::unbounded_channel();
    let bounds =
        Bounds { min: Duration::from_millis(10), max: Duration::from_millis(40), keep_last_good };
    let resolver = Arc::new(server.resolver());
    let publish = move |set: Option<Vec<SocketAddr>>, _: &Resolution| {
        set.into_iter().for_each(|set| {
            let _ = sender.send(set);
        });
    };
    let (name, unknown) = ("pay.test".to_owned(), Resolution::default());
    let task = tokio::spawn(keep_resolved(name, 80, bounds, resolver, unknown, publish));
    Kept { sets, task }
}

struct Kept {
    sets: mpsc::UnboundedReceiver<Vec<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Kept {
    async fn next(&mut self) -> Vec<String> {
        let set = tokio::time::timeout(PATIENCE, self.sets.recv()).await;
        let set = set.expect("nothing is published").expect("the task ended");
        set.iter().map(ToString::to_string).collect()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until the server was asked so many more times.
async fn asked_again(server: &Server, times: usize) {
    let goal = server.questions() + times;
    let mut questions = server.questions.clone();
    let asked = questions.wait_for(|count| *count >= goal);
    let asked = tokio::time::timeout(PATIENCE, asked).await;
    asked.expect("the name server is not asked again").expect("the name server ended");
}

#[tokio::test]
async fn changes_are_published_and_nothing_else_is() {
    let server = Server::start().await;
    let mut kept = keep(&server, Duration::from_secs(3600));
    assert_eq!(kept.next().await, [""; 0], "a failure at the start publishes an empty set");
    server.set_v4("pay.test.", &[2, 1]);
    assert_eq!(kept.next().await, ["127.0.0.1:80", "127.0.0.2:80"]);
    server.set_v4("pay.test.", &[1, 2]);
    asked_again(&server, 8).await;
    server.set_v4("pay.test.", &[2, 3]);
    assert_eq!(kept.next().await, ["127.0.0.1:80", "127.0.0.2:80", "127.0.0.3:80"]);
    assert_eq!(kept.next().await, ["127.0.0.2:80", "127.0.0.3:80"]);
    server.set_v4("pay.test.", &[]);
    asked_again(&server, 8).await;
    assert!(kept.sets.is_empty(), "the last good set is kept");
    server.set_v4("pay.test.", &[2, 3, 4]);
    assert_eq!(kept.next().await, ["127.0.0.2:80", "127.0.0.3:80", "127.0.0.4:80"]);
}

#[tokio::test]
async fn the_last_good_set_ends_after_its_time_and_comes_back() {
    let server = Server::start().await;
    server.set_v4("pay.test.", &[1]);
    let mut kept = keep(&server, Duration::from_millis(100));
    assert_eq!(kept.next().await, ["127.0.0.1:80"]);
    let failed = clock::now();
    server.set_v4("pay.test.", &[]);
    assert_eq!(kept.next().await, [""; 0]);
    assert!(clock::now() - failed >= Duration::from_millis(100));
    server.set_v4("pay.test.", &[1]);
    assert_eq!(kept.next().await, ["127.0.0.1:80"]);
}

#[tokio::test]
async fn a_literal_is_published_once() {
    let server = Server::start().await;
    let resolver = Arc::new(server.resolver());
    let bounds = Bounds { min: PATIENCE, max: PATIENCE, keep_last_good: PATIENCE };
    let mut sets = Vec::new();
    let (name, unknown) = ("fd00::1".to_owned(), Resolution::default());
    keep_resolved(name, 80, bounds, resolver, unknown, |set, _| sets.extend(set)).await;
    assert_eq!(sets, [["[fd00::1]:80".parse().unwrap()]]);
    assert_eq!(server.questions(), 0);
}
