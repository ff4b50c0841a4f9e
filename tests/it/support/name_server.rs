//! A name server on loopback that answers from a table which the test changes.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, OpCode, ResponseCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use outrigger::upstream::resolve::Resolver;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::PATIENCE;

/// What is answered to a question for a name's IPv4 addresses.
#[derive(Clone)]
enum Reply {
    Addresses(Vec<Ipv4Addr>),
    Code(ResponseCode),
    Silence,
}

pub(crate) struct NameServer {
    address: SocketAddr,
    table: Arc<Mutex<HashMap<String, Reply>>>,
    questions: watch::Receiver<usize>,
    task: JoinHandle<()>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    /// A server that knows no name.
    pub(crate) async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let table: Arc<Mutex<HashMap<String, Reply>>> = Arc::default();
        let (asked, questions) = watch::channel(0);
        let known = Arc::clone(&table);
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question = Message::from_vec(&buffer[..length]).unwrap();
                let name = question.queries[0].name().to_ascii().to_lowercase();
                let reply = known.lock().unwrap().get(&name).cloned();
                if let Some(packet) = packet(&question, reply) {
                    socket.send_to(&packet, from).await.unwrap();
                }
                asked.send_modify(|count| *count += 1);
            }
        });
        Self { address, table, questions, task }
    }

    pub(crate) fn resolver(&self) -> Resolver {
        Resolver::with_server(self.address).unwrap()
    }

    /// From now on the name has these addresses.
    pub(crate) fn answer(&self, name: &str, addresses: &[Ipv4Addr]) {
        self.set(name, Reply::Addresses(addresses.to_vec()));
    }

    /// From now on questions for the name are answered with a failure.
    pub(crate) fn fail(&self, name: &str) {
        self.set(name, Reply::Code(ResponseCode::ServFail));
    }

    /// From now on questions for the name are not answered.
    pub(crate) fn silence(&self, name: &str) {
        self.set(name, Reply::Silence);
    }

    fn set(&self, name: &str, reply: Reply) {
        self.table.lock().unwrap().insert(format!("{name}."), reply);
    }

    /// Waits until it has been asked so many times more.
    pub(crate) async fn asked(&self, times: usize) {
        let mut questions = self.questions.clone();
        let until = *questions.borrow_and_update() + times;
        let wait = questions.wait_for(|count| *count >= until);
        tokio::time::timeout(PATIENCE, wait).await.expect("it is not asked").unwrap();
    }
}

fn packet(question: &Message, reply: Option<Reply>) -> Option<Vec<u8>> {
    let query = question.queries[0].clone();
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.recursion_available = true;
    let (owner, wanted) = (query.name().clone(), query.query_type());
    answer.add_query(query);
    match reply.unwrap_or(Reply::Code(ResponseCode::NXDomain)) {
        Reply::Silence => return None,
        Reply::Code(code) => answer.metadata.response_code = code,
        Reply::Addresses(addresses) if wanted == RecordType::A => {
            for address in addresses {
                answer.add_answer(Record::from_rdata(owner.clone(), 0, RData::A(A(address))));
            }
        }
        // The name exists, and has no address of the other family.
        Reply::Addresses(_) => {}
    }
    Some(answer.to_vec().unwrap())
}
