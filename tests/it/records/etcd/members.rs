//! Real members of etcd, on free ports of the loopback, with their data in a folder of their own.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
/// How many members a cluster has.
pub(crate) const MEMBERS: usize = 3;

/// A cluster. Its processes end with this process at the latest: each hangs on a pipe of ours.
pub(crate) struct Members {
    members: Vec<Member>,
}

struct Member {
    arguments: Vec<String>,
    folder: String,
    client: SocketAddr,
    running: Mutex<Option<Running>>,
}

struct Running {
    shell: Child,
    pid: u32,
}

/// Addresses that nobody has now.
pub(crate) fn free<const N: usize>() -> [SocketAddr; N] {
    let listeners: [_; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap())
}

impl Members {
    /// Three members that reach each other directly.
    pub(crate) fn start() -> Self {
        let peers = free();
        Self::with(peers, peers, &[])
    }

    /// Three members that listen on some addresses and are found at others.
    pub(crate) fn apart(listen: [SocketAddr; MEMBERS], found: [SocketAddr; MEMBERS]) -> Self {
        Self::with(listen, found, &[])
    }

    /// Three members with these options more.
    pub(crate) fn options(more: &[&str]) -> Self {
        let peers = free();
        Self::with(peers, peers, more)
    }

    /// Three members that clients reach over TLS, by the certificate and the key in these files.
    pub(crate) fn behind_tls(certificate: &Path, key: &Path) -> Self {
        let peers = free();
        let files = [("cert", certificate), ("key", key)];
        let files = files.map(|(what, file)| format!("--{what}-file={}", file.display()));
        Self::with(peers, peers, &files.each_ref().map(String::as_str))
    }

    fn with(listen: [SocketAddr; MEMBERS], found: [SocketAddr; MEMBERS], more: &[&str]) -> Self {
        let clients: [_; MEMBERS] = free();
        let cluster: Vec<_> =
            found.iter().enumerate().map(|(at, peer)| format!("m{at}=http://{peer}")).collect();
        let members = (0..MEMBERS).map(|at| {
            let folder = tempfile::tempdir().unwrap().keep().display().to_string();
            let client = clients[at];
            let scheme = if more.iter().any(|more| more.starts_with("--cert-file")) {
                "https"
            } else {
                "http"
            };
            let mut arguments = vec![
                format!("--name=m{at}"),
                format!("--data-dir={folder}/data"),
                format!("--listen-peer-urls=http://{}", listen[at]),
                format!("--initial-advertise-peer-urls=http://{}", found[at]),
                format!("--listen-client-urls={scheme}://{client}"),
                format!("--advertise-client-urls={scheme}://{client}"),
                format!("--initial-cluster={}", cluster.join(",")),
                "--log-level=warn".to_owned(),
                "--logger=zap".to_owned(),
            ];
            arguments.extend(more.iter().map(|&argument| argument.to_owned()));
            Member { arguments, folder, client, running: Mutex::default() }
        });
        let members = Self { members: members.collect() };
        (0..MEMBERS).for_each(|at| members.run(at));
        members
    }

    /// Where clients find the members.
    pub(crate) fn clients(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.client).collect()
    }

    /// Starts a member, also again.
    pub(crate) fn run(&self, at: usize) {
        let member = &self.members[at];
        // The shell waits for a word, or for the end of this process, and takes the member along.
        let script = "folder=$1; shift; \"$@\" >>\"$folder/log\" 2>&1 & echo $!; read -r word; \
                      kill -9 $! 2>/dev/null; wait; [ \"$word\" = keep ] || rm -rf \"$folder\"";
        let mut shell = Command::new("sh")
            .args(["-c", script, "sh", &member.folder, "etcd"])
            .args(&member.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let pid = line.trim().parse().unwrap();
        *member.running.lock().unwrap() = Some(Running { shell, pid });
    }

    /// Kills a member at once.
    pub(crate) fn kill(&self, at: usize) {
        self.signal(at, "KILL");
        if let Some(mut running) = self.members[at].running.lock().unwrap().take() {
            running.shell.stdin.take().unwrap().write_all(b"keep\n").unwrap();
            running.shell.wait().unwrap();
        }
    }

    /// Sends a signal to a member.
    pub(crate) fn signal(&self, at: usize, signal: &str) {
        if let Some(running) = &*self.members[at].running.lock().unwrap() {
            let pid = running.pid.to_string();
            Command::new("kill").args(["-s", signal, &pid]).status().unwrap();
        }
    }

    /// What a member has written about itself.
    pub(crate) fn said(&self, at: usize) -> String {
        let log = std::fs::read_to_string(format!("{}/log", self.members[at].folder));
        log.unwrap_or_default()
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for at in 0..self.members.len() {
            self.kill(at);
            if std::thread::panicking() {
                let said = self.said(at);
                let tail: Vec<_> = said.lines().rev().take(5).collect();
                let _ = writeln!(std::io::stderr(), "member {at} said: {tail:#?}");
            }
            // What is left in a folder for temporary files harms nobody.
            let _ = std::fs::remove_dir_all(&self.members[at].folder);
        }
    }
}
