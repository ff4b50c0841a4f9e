//! The official Stripe client in Python, against `localstripe`, an imitation of Stripe that takes
//! no notice of Idempotency-Key. The first answer is lost on its way to the client, which asks
//! again.
//!
//! Both are in `target/python`, where `tests/run.sh` puts them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{ALONE, keyed_at};
use crate::support::relay::{Relay, Rule};
use crate::support::sidecar::eventually;

/// Makes one customer, says whether its answer was a repetition, and how many customers there are.
const SCRIPT: &str = r#"
import stripe, sys
stripe.api_key = "sk_test_12345"
stripe.api_base = sys.argv[1]
stripe.max_network_retries = 3
made = stripe.Customer.create(name="one")
fields = {name.lower(): value for name, value in made.last_response.headers.items()}
print("replayed" if fields.get("idempotent-replayed") == "true" else "executed")
print(len(stripe.Customer.list().data))
"#;

fn program(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/python/bin").join(name)
}

/// A `localstripe` on a port of its own; ended when this is dropped.
struct Stripe {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Stripe {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Stripe {
    async fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program("localstripe"));
        command.args(["--from-scratch", "--port", &address.port().to_string()]);
        // It keeps its data below the home folder.
        command.env("HOME", folder.path()).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("localstripe cannot be run; tests/run.sh installs it: {error}")
        });
        let stripe = Self { process, address, _folder: folder };
        let connects = async || tokio::net::TcpStream::connect(address).await.is_ok();
        eventually("localstripe listens", connects).await;
        stripe
    }
}

/// What the client says that reaches Stripe through a relay which loses the first answer.
async fn customers(server: SocketAddr) -> Vec<String> {
    let relay = Relay::to(server).await;
    relay.rule(Rule::CutAtReply);
    let base = format!("http://{}", relay.address());
    let mut command = Command::new(program("python"));
    command.args(["-c", SCRIPT, &base]).stdin(Stdio::null());
    let ran = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(relay.is_used(), "no answer was lost");
    String::from_utf8(ran.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_makes_two_customers_without_outrigger_and_one_with_it() {
    let alone = Stripe::start().await;
    assert_eq!(customers(alone.address).await, ["executed", "2"]);
    let stripe = Stripe::start().await;
    let settings = "store: s, scope: [authorization], claim_deadline: 5s, commit_deadline: 5s";
    let sidecar = keyed_at(stripe.address, settings, ALONE, "memory: {}");
    assert_eq!(customers(sidecar.address).await, ["replayed", "1"]);
}
