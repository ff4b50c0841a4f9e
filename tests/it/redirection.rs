//! Connections that the kernel redirects to the proxy, in network namespaces of the test's own:
//! the application and the proxy in one, nginx in another, and `docker/redirect.sh` between.
//!
//! Needs root, or `sudo` that asks nothing; `tests/run.sh` installs the tools.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::sidecar::eventually;

/// The users that the proxy and the application run as.
const PROXY: &str = "31337";
const APPLICATION: &str = "32000";
/// A size that no buffer on the way holds.
const LARGE: usize = 100 << 20;

/// Tells the scenes of one run apart.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A command that runs as root.
fn root(program: &str) -> Command {
    let id = Command::new("id").arg("-u").output().expect("a user");
    let mut command = if id.stdout == b"0\n" {
        Command::new(program)
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", program]);
        command
    };
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin")).stdin(Stdio::null());
    command
}

fn output(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"))
}

/// What a command says, which must end well.
fn said(command: &mut Command) -> String {
    let output = output(command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two namespaces with a wire between them: `inside` at 10.99.0.1 and fd99::1, `outside` at
/// 10.99.0.2 and fd99::2. Gone with all in them when this is dropped.
struct Scene {
    inside: String,
    outside: String,
    folder: tempfile::TempDir,
    running: Vec<Killed>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.running.clear();
        for namespace in [&self.inside, &self.outside] {
            // Best done, whatever the test came to.
            let _ = root("ip").args(["netns", "del", namespace]).output();
        }
    }
}

impl Scene {
    fn new() -> Self {
        let number = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let names = ["ori", "oro", "vi", "vo"].map(|name| format!("{name}{number}"));
        let [inside, outside, near, far] = names;
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("ours");
        let (inside, outside) = (inside, outside);
        let scene = Self { inside, outside, folder, running: Vec::new() };
        let ip = |line: &str| said(root("ip").args(line.split(' ')));
        ip(&format!("netns add {}", scene.inside));
        ip(&format!("netns add {}", scene.outside));
        let ends = [(&scene.inside, &near, 1), (&scene.outside, &far, 2)];
        ip(&format!(
            "link add {near} netns {} type veth peer name {far} netns {}",
            scene.inside, scene.outside
        ));
        for (namespace, end, last) in ends {
            ip(&format!("-n {namespace} addr add 10.99.0.{last}/24 dev {end}"));
            ip(&format!("-n {namespace} addr add fd99::{last}/64 dev {end} nodad"));
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set {end} up"));
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command in one of the namespaces.
    fn at(&self, namespace: &str, program: &str) -> Command {
        let mut command = root("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }

    /// A command beside the proxy, as this user.
    fn as_user(&self, user: &str, program: &str) -> Command {
        let mut command = self.at(&self.inside, "setpriv");
        let group = format!("--regid={user}");
        command.args([&format!("--reuid={user}"), &group, "--clear-groups", program]);
        command
    }

    /// Starts nginx outside: it says how each request reached it, and has a large file.
    async fn nginx(&mut self) {
        let folder = self.folder.path().display().to_string();
        let listens = "listen 10.99.0.2:80; listen [fd99::2]:80;";
        let text = format!(
            "daemon off; master_process off; user root; pid {folder}/pid; error_log {folder}/e;\n\
             events {{}}\nhttp {{ access_log off; default_type text/plain;\n\
             client_body_temp_path {folder}/b; proxy_temp_path {folder}/p;\n\
             fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
             server {{ {listens} root {folder};\n\
             location = /way {{ return 200 'via=$http_via to=$server_addr host=$host'; }} }}\n\
             server {{ listen 10.99.0.2:81; location / {{ return 200 'named'; }} }} }}\n"
        );
        let file = self.path("nginx.conf");
        std::fs::write(&file, text).expect("a file");
        let mut command = self.at(&self.outside.clone(), "nginx");
        command.arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        self.running.push(Killed(command.spawn().expect("nginx is installed")));
        let url = "http://10.99.0.2/way";
        eventually("nginx answers", async || {
            let mut curl = self.at(&self.inside, "curl");
            output(curl.args(["--silent", "--fail", "--max-time", "5", url])).status.success()
        })
        .await;
    }

    /// Starts the proxy inside, with listeners at these addresses that take what is redirected.
    async fn outrigger(&mut self, addresses: &[&str]) {
        let program = self.path("outrigger");
        std::fs::copy(env!("CARGO_BIN_EXE_outrigger"), &program).expect("the proxy is built");
        let takes = "original_destination: true, forwarded: { via: outrigger }, \
                     limits: { header_timeout: 1s }";
        let listener = |(number, address): (usize, &&str)| {
            format!("  - {{ name: l{number}, bind: \"{address}\", {takes} }}\n")
        };
        let listeners: String = addresses.iter().enumerate().map(listener).collect();
        let text = format!(
            "admin: {{ bind: \"unix:{}\" }}\nruntime: {{ workers: 2 }}\n\
             reload: {{ watch: false }}\ntelemetry: {{ access_log: {{ to: none }} }}\n\
             listeners:\n{listeners}\
             upstreams:\n  named: {{ endpoints: [\"10.99.0.2:81\"] }}\n\
             \x20 any: {{ original_destination: {{}}, concurrency: {{ mode: off }} }}\n\
             routes:\n  - {{ name: named, match: {{ host: named.test }}, upstream: named }}\n\
             \x20 - {{ name: rest, upstream: any, circuit_breaker: {{ mode: off }} }}\n",
            self.path("admin").display()
        );
        let file = self.path("outrigger.yaml");
        std::fs::write(&file, text).expect("a file");
        let program = program.to_str().expect("a path").to_owned();
        let mut command = self.as_user(PROXY, &program);
        command.arg("run").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        self.running.push(Killed(command.spawn().expect("setpriv is installed")));
        eventually("the proxy is ready", async || self.admin("/readyz").is_some()).await;
    }

    fn admin(&self, path: &str) -> Option<String> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "--max-time", "20", "--unix-socket"]);
        let output = output(curl.arg(self.path("admin")).arg(format!("http://a{path}")));
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the script inside.
    fn redirect(&self, arguments: &str) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/redirect.sh");
        said(self.at(&self.inside, "bash").arg(script).args(arguments.split(' ')))
    }

    /// What the application's curl gets: the status and the body.
    fn ask(&self, arguments: &[&str]) -> (String, String) {
        let mut curl = self.as_user(APPLICATION, "curl");
        curl.args(["--silent", "--show-error", "--max-time", "120", "--noproxy", "*"]);
        let text = said(curl.args(["--write-out", "\n%{http_code}"]).args(arguments));
        let (body, status) = text.rsplit_once('\n').expect("a status");
        (status.to_owned(), body.to_owned())
    }
}

const BOTH: [&str; 2] = ["10.99.0.2", "[fd99::2]"];
const LOOPBACK: [&str; 2] = ["127.0.0.1:15001", "[::1]:15001"];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_redirected_goes_where_it_was_going() {
    let mut scene = Scene::new();
    scene.nginx().await;
    scene.outrigger(&LOOPBACK).await;
    for with in ["nft", "iptables"] {
        for _ in 0..2 {
            scene.redirect(&format!("apply --uid {PROXY} --with {with} --exclude-port 8081"));
        }
        for host in BOTH {
            let (status, body) = scene.ask(&[&format!("http://{host}/way")]);
            let plain = host.trim_matches(['[', ']']);
            let expected = format!("via=1.1 outrigger to={plain} host={host}");
            assert_eq!((&*status, body), ("200", expected), "{with}");
        }
        // Routes go by the host as ever, wherever the connection was going.
        let named = scene.ask(&["--header", "Host: named.test", "http://10.99.0.2/"]);
        assert_eq!(named, ("200".to_owned(), "named".to_owned()));
    }
    // Nobody listens there, and the destination is not asked of the proxy but of the server.
    let (status, body) = scene.ask(&["http://10.99.0.2:9/"]);
    assert!(status == "502" && body.contains("connect_failure"), "{status} {body}");
    let metrics = scene.admin("/metrics").expect("metrics");
    for endpoint in ["10.99.0.2:80", "[fd99::2]:80", "10.99.0.2:9"] {
        assert!(metrics.contains(&format!("endpoint=\"{endpoint}\"")), "{endpoint} in\n{metrics}");
    }
    // Without the rules the application is alone again; to remove them twice does no harm.
    for _ in 0..2 {
        scene.redirect("remove");
    }
    let (_, body) = scene.ask(&["http://10.99.0.2/way"]);
    assert!(body.starts_with("via= "), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_answer_is_the_same_byte_for_byte() {
    let mut scene = Scene::new();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(LARGE);
    while bytes.len() < LARGE {
        // Marsaglia's xorshift: no two pieces are alike.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    std::fs::write(scene.path("large"), &bytes).expect("a file");
    scene.nginx().await;
    // One listener for both families.
    scene.outrigger(&["[::]:15001"]).await;
    scene.redirect(&format!("apply --uid {PROXY}"));
    for (number, host) in BOTH.into_iter().enumerate() {
        let file = scene.path(&format!("got{number}"));
        let file = file.to_str().expect("a path");
        let (status, _) = scene.ask(&["--output", file, &format!("http://{host}/large")]);
        assert_eq!(status, "200");
        assert!(std::fs::read(file).expect("a file") == bytes, "{host} differs");
    }
    let metrics = scene.admin("/metrics").expect("metrics");
    let sample = "outrigger_route_requests_total{route=\"rest\",class=\"2xx\"} 2";
    assert!(metrics.contains(sample), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_kernel_says_where_a_connection_was_going() {
    let mut scene = Scene::new();
    scene.nginx().await;
    scene.outrigger(&LOOPBACK).await;
    scene.redirect(&format!("apply --uid {PROXY}"));
    for listener in LOOPBACK {
        let url = format!("http://{listener}/way");
        for target in [
            vec![&*url],
            vec!["--header", "Host: 10.99.0.2", &*url],
            vec!["--noproxy", "none", "--proxy", &*url, "http://10.99.0.2/way"],
        ] {
            let (status, body) = scene.ask(&target);
            assert!(
                status == "421" && body.contains("no_original_destination"),
                "{target:?} {body}"
            );
        }
    }
    // What is not HTTP is refused, and not passed on.
    for (bytes, status) in [
        ("\\x16\\x03\\x01\\x00\\x05hello", "400"),
        ("* LIST\\r\\n\\r\\n", "400"),
        // All of this could be a method.
        ("SSH-2.0-OpenSSH_9.2\\r\\n", "408"),
    ] {
        let script = format!("exec 3<>/dev/tcp/10.99.0.2/80; printf '{bytes}' >&3; cat <&3");
        // How the connection ends after the answer is no matter here.
        let output = output(scene.as_user(APPLICATION, "bash").args(["-c", &script]));
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{bytes}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_that_do_not_spare_the_proxy_make_no_loop() {
    let mut scene = Scene::new();
    scene.nginx().await;
    scene.outrigger(&LOOPBACK).await;
    // The wrong user: the proxy's own connections come back to it.
    scene.redirect("apply --uid 1");
    for host in BOTH {
        let (status, body) = scene.ask(&[&format!("http://{host}/way")]);
        assert!(status == "508" && body.contains("loop"), "{host}: {status} {body}");
        // By its name as well, though the route has endpoints of its own.
        let (status, body) = scene.ask(&["-H", "Host: named.test", &format!("http://{host}/")]);
        assert!(status == "508" && body.contains("loop"), "{host}: {status} {body}");
    }
    scene.redirect(&format!("apply --uid {PROXY}"));
    let (status, _) = scene.ask(&["http://10.99.0.2/way"]);
    assert_eq!(status, "200");
    let metrics = scene.admin("/metrics").expect("metrics");
    assert!(metrics.contains("outrigger_listener_reasons_total{listener=\"l0\",reason=\"loop\"}"));
}

#[test]
fn the_script_refuses_what_it_does_not_know() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/docker/redirect.sh");
    for (arguments, words) in [
        ("", "say apply, remove or show"),
        ("apply", "needs --uid or --mark"),
        ("apply --uid me", "--uid wants a number"),
        ("apply --uid 1 --port 70000", "--port wants a number from 1 to 65535"),
        ("apply --uid 1 --ports 80,x", "--ports wants a number"),
        ("apply --uid 1 --exclude x;y", "--exclude wants a network"),
        ("apply --uid", "--uid wants a value"),
        ("apply --uid 1 --with pf", "--with wants nft or iptables"),
        ("apply --all yes", "--all is not known"),
    ] {
        let mut command = Command::new("bash");
        command.arg(script).args(arguments.split(' ').filter(|word| !word.is_empty()));
        let output = output(&mut command);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {errors}");
        assert!(errors.contains(words), "{arguments}: {errors}");
    }
}
