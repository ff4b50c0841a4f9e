//! The proxy as a process of its own, between unix sockets, so that no port is fixed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use outrigger::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::PATIENCE;
use super::sidecar::eventually;

/// A process; killed when this is dropped.
pub(crate) struct Child {
    process: std::process::Child,
    folder: Arc<tempfile::TempDir>,
    /// What it has written to standard error so far.
    said: Arc<Mutex<String>>,
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The proxy's command line.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_outrigger"));
    command.stdin(Stdio::null());
    command
}

impl Child {
    /// Runs the proxy under this configuration, in front of which sockets and quiet logs are put,
    /// and waits until it listens.
    pub(crate) async fn start(text: &str) -> Self {
        let mut run = command();
        run.arg("run");
        Self::run(run, text).await
    }

    /// The same, made to die at a place in its code.
    pub(crate) async fn dying_at(place: &str, text: &str) -> Self {
        let mut run = command();
        run.arg("run").env("OUTRIGGER_FAILPOINT", place);
        Self::run(run, text).await
    }

    /// The same with so many file descriptors.
    pub(crate) async fn with_descriptors(limit: u32, text: &str) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("ulimit -n {limit}; exec \"$0\" run \"$1\"");
        shell.stdin(Stdio::null()).args(["-c", &script, env!("CARGO_BIN_EXE_outrigger")]);
        Self::run(shell, text).await
    }

    /// Runs a command that takes the file's name.
    async fn run(mut command: Command, text: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let file = folder.path().join("outrigger.yaml");
        std::fs::write(&file, Self::whole(folder.path(), text)).unwrap();
        command.arg(&file);
        let child = Self::spawn(command, folder);
        let socket = child.socket();
        eventually("it listens", async || UnixStream::connect(&socket).await.is_ok()).await;
        child
    }

    /// Another process of the same configuration and the same sockets; not waited for.
    pub(crate) fn again(&self) -> Self {
        let mut run = command();
        run.arg("run").arg(self.folder.path().join("outrigger.yaml"));
        Self::spawn(run, Arc::clone(&self.folder))
    }

    fn spawn(mut command: Command, folder: Arc<tempfile::TempDir>) -> Self {
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<Mutex<String>>::default();
        let (lines, heard) = (process.stderr.take().unwrap(), Arc::clone(&said));
        // Ends with the process.
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                let mut said = heard.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        Self { process, folder, said }
    }

    fn whole(folder: &Path, text: &str) -> String {
        let folder = folder.display();
        format!(
            "admin: {{ bind: \"unix:{folder}/admin\", token_file: \"{folder}/token\" }}\n\
             listeners: [{{ name: in, bind: \"unix:{folder}/in\" }}]\n\
             reload: {{ watch: false }}\n\
             telemetry: {{ access_log: {{ to: none }} }}\n{text}"
        )
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("in")
    }

    /// Its memory that is resident, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(status).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }

    /// Where its admin API listens.
    pub(crate) fn admin(&self) -> PathBuf {
        self.folder.path().join("admin")
    }

    /// Writes the admin API's token, `let-me`; until then it has none. Gives the file.
    pub(crate) fn token(&self) -> PathBuf {
        let file = self.folder.path().join("token");
        std::fs::write(&file, "let-me\n").unwrap();
        file
    }

    /// Replaces its configuration, which nobody tells it.
    pub(crate) fn write(&self, text: &str) {
        let file = self.folder.path().join("outrigger.yaml");
        std::fs::write(file, Self::whole(self.folder.path(), text)).unwrap();
    }

    /// What it has written to standard error so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it has written this to standard error.
    pub(crate) async fn says(&self, text: &str) {
        eventually(text, async || self.said().contains(text)).await;
    }

    /// Sends it a signal, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let number = self.process.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &number]).status();
        assert!(sent.unwrap().success(), "{name} cannot be sent");
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().unwrap();
        self.ended().await;
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let end = clock::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status;
            }
            assert!(clock::now() < end, "it does not end:\n{}", self.said());
            clock::sleep(Duration::from_millis(2)).await;
        }
    }

    /// A GET over a connection of its own: the status, or nothing if the answer broke off.
    pub(crate) async fn get(&self) -> Option<u16> {
        get(&self.socket()).await
    }
}

/// A GET at a unix socket: the whole answer as text; empty when there is none.
pub(crate) async fn ask(socket: &Path, path: &str) -> String {
    ask_as(socket, path, "default").await
}

/// A POST under a key at a unix socket: the whole answer as text; empty when there is none.
pub(crate) async fn post(socket: &Path, key: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "POST /charges HTTP/1.1\r\nhost: localhost\r\nidempotency-key: {key}\r\n\
         content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    let mut answer = String::new();
    let Ok(mut stream) = UnixStream::connect(socket).await else { return answer };
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_string(&mut answer).await
    };
    // A connection that breaks off is an answer that breaks off.
    let _ = tokio::time::timeout(PATIENCE, exchange).await;
    answer
}

/// The same in a tier of importance.
pub(crate) async fn ask_as(socket: &Path, path: &str, tier: &str) -> String {
    let mut answer = String::new();
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nx-priority: {tier}\r\nconnection: close\r\n\r\n"
    );
    if let Ok(mut stream) = UnixStream::connect(socket).await
        && stream.write_all(request.as_bytes()).await.is_ok()
    {
        // What came until it broke off is the answer.
        let _ = stream.read_to_string(&mut answer).await;
    }
    answer
}

/// A GET at a unix socket: the status; nothing when there is no answer, or not the whole of it.
pub(crate) async fn get(socket: &Path) -> Option<u16> {
    let mut stream = UnixStream::connect(socket).await.ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.contains("\r\n\r\n").then_some(())?;
    answer.split(' ').nth(1)?.parse().ok()
}
