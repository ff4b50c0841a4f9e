//! Servers of Redis, each a process of its own in a folder of its own.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use outrigger::clock;
use redis::{Connection, FromRedisValue};

use crate::support::PATIENCE;

/// A server; killed with its holder.
pub(crate) struct Server {
    process: Child,
    folder: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    password: Option<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that is free now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts one that keeps nothing on disk, with more arguments, and waits until it answers.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let mut all = vec!["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"];
        all.extend(arguments);
        Self::with(&all).await
    }

    /// Starts one that has on disk whatever it has answered.
    pub(crate) async fn durable() -> Self {
        Self::with(&["--save", "", "--appendonly", "yes", "--appendfsync", "always"]).await
    }

    async fn with(arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let password = arguments.iter().position(|word| word == "--requirepass");
        let password = password.map(|place| arguments[place + 1].clone());
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let port = free_port();
            let process = run(folder.path(), port, &arguments);
            let (arguments, password) = (arguments.clone(), password.clone());
            let mut server = Self { process, folder, port, arguments, password };
            if server.answers().await {
                return server;
            }
        }
        panic!("no server starts on any port");
    }

    /// Waits until it answers; false when it has ended, as somebody else has its port.
    async fn answers(&mut self) -> bool {
        let end = clock::now() + PATIENCE;
        while clock::now() < end {
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            if self.try_connect().is_ok_and(|mut connection| {
                redis::cmd("PING").query::<String>(&mut connection).is_ok()
            }) {
                return true;
            }
            clock::sleep(Duration::from_millis(2)).await;
        }
        panic!("the server does not answer");
    }

    fn try_connect(&self) -> redis::RedisResult<Connection> {
        let login = self.password.as_ref().map(|word| format!(":{word}@")).unwrap_or_default();
        let url = format!("redis://{login}127.0.0.1:{}", self.port);
        redis::Client::open(url)?.get_connection_with_timeout(Duration::from_secs(5))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a command, its words separated by spaces.
    pub(crate) fn run<T: FromRedisValue>(&self, words: &str) -> T {
        self.try_run(words).unwrap()
    }

    pub(crate) fn try_run<T: FromRedisValue>(&self, words: &str) -> redis::RedisResult<T> {
        let mut words = words.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        for word in words {
            command.arg(word);
        }
        command.query(&mut self.try_connect()?)
    }

    /// One line of `INFO`.
    pub(crate) fn info(&self, name: &str) -> String {
        let all: String = self.try_run("INFO everything").unwrap_or_default();
        let found = all.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.unwrap_or_default().trim().to_owned()
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Starts it again, where it was.
    pub(crate) async fn start_again(&mut self) {
        self.kill();
        self.process = run(self.folder.path(), self.port, &self.arguments);
        assert!(self.answers().await, "somebody took the port");
    }

    /// Sends it a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let number = self.process.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &number]).status();
        assert!(sent.unwrap().success(), "{name} cannot be sent");
    }
}

fn run(folder: &Path, port: u16, arguments: &[String]) -> Child {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new("redis-server");
    // A sentinel keeps what it knows in a file of its own, which comes first.
    let (file, arguments) = match arguments.split_first() {
        Some((first, rest)) if first.ends_with(".conf") => {
            let file = folder.join(first);
            std::fs::write(&file, rest.join("\n")).unwrap();
            (Some(file), &[] as &[String])
        }
        _ => (None, arguments),
    };
    if let Some(file) = &file {
        command.arg(file).arg("--sentinel");
    }
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(folder)
        .args(["--daemonize", "no"])
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server runs; Debian has it in the package redis-server")
}

/// A sentinel that knows this primary under the name `main`.
pub(crate) async fn sentinel(primary: &Server) -> Server {
    let watch = format!("sentinel monitor main 127.0.0.1 {} 1", primary.port());
    Server::with(&[
        "sentinel.conf",
        &watch,
        "sentinel down-after-milliseconds main 500",
        "sentinel failover-timeout main 3000",
        "sentinel parallel-syncs main 1",
    ])
    .await
}

/// A replica of this server, in step with it.
pub(crate) async fn replica(primary: &Server) -> Server {
    let of = format!("127.0.0.1 {}", primary.port());
    let replica = Server::start(&["--replicaof", &of, "--repl-diskless-sync-delay", "0"]).await;
    crate::support::eventually("the replica is in step", || {
        replica.info("master_link_status") == "up"
    })
    .await;
    replica
}

/// Three nodes that divide the slots among themselves.
pub(crate) async fn cluster() -> [Server; 3] {
    let node = || Server::start(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]);
    let nodes = [node().await, node().await, node().await];
    for (node, (epoch, run)) in
        nodes.iter().zip([(1, "0 5460"), (2, "5461 10922"), (3, "10923 16383")])
    {
        let _: () = node.run(&format!("CLUSTER SET-CONFIG-EPOCH {epoch}"));
        let _: () = node.run(&format!("CLUSTER ADDSLOTSRANGE {run}"));
    }
    for other in &nodes[1..] {
        let _: () = nodes[0].run(&format!("CLUSTER MEET 127.0.0.1 {}", other.port()));
    }
    for node in &nodes {
        crate::support::eventually("the cluster serves", || {
            let state: String = node.run("CLUSTER INFO");
            state.contains("cluster_state:ok") && state.contains("cluster_known_nodes:3")
        })
        .await;
    }
    nodes
}
