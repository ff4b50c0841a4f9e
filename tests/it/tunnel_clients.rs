//! Clients that are told of a proxy, as they are, and clients and servers of WebSocket: what people
//! really run on either side.
//!
//! A program that is not installed fails its tests; `tests/run.sh` installs them all, the libraries
//! into `target/python` and `target/node`.

use std::io::BufRead as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::real_clients::run;
use crate::support::proxy::{Proxy, proxy};
use crate::support::secure::{Authority, Front, front};
use crate::support::upstream::Upstream;
use crate::support::{eventually, reply, upstream};
use crate::tunnels::counted;

/// A program of `tests/it/clients`.
fn program(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/clients").join(name)
}

/// A file of what `tests/run.sh` has installed for us.
fn installed(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target").join(name)
}

fn python(name: &str) -> Command {
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(program(name));
    command
}

fn node(name: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(program(name)).env("NODE_PATH", installed("node/node_modules"));
    command
}

/// What a program wrote, which must have ended well.
async fn output(command: Command) -> String {
    let shown = format!("{command:?}");
    let output = run(command, String::new()).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

const PLAIN: &str = "http://svc.test/plain?x";
const SECRET: &str = "https://svc.test/secret?x";

/// A service with a plain and an encrypted entrance, to both of which the proxy allows tunnels.
struct Scene {
    proxy: Proxy,
    upstream: Upstream,
    _front: Front,
    folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let upstream = upstream()
            .serve(|mut arrival| async move {
                let length = arrival.read().await.len();
                reply(200).body(format!("{} {length}", arrival.target))
            })
            .spawn()
            .await;
        let authority = Authority::new("one");
        let issued = authority.issue(&["svc.test"]);
        let front = front(upstream.address(), &issued, &["http/1.1"], None).await;
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), &authority.pem).expect("written");
        let proxy = proxy(
            "upstreams:
  plain: { endpoints: [\"{upstream}\"] }
  secret: { endpoints: [\"{front}\"] }
routes:
  - { name: requests, match: { host: svc.test }, upstream: plain }
  - { name: direct, match: { path: /direct }, upstream: plain }
  - { name: secret, match: { methods: [CONNECT], host: \"svc.test:443\" }, upstream: secret }
  - { name: plain, match: { methods: [CONNECT], host: \"svc.test:80\" }, upstream: plain }
",
        )
        .to(&upstream)
        .with("front", front.address)
        .spawn()
        .await;
        Self { proxy, upstream, _front: front, folder }
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The command with the proxy in its environment, with credentials that are for the proxy.
    fn through(&self, mut command: Command) -> Command {
        let address = format!("http://me:secret@{}", self.proxy.address());
        for name in ["no_proxy", "NO_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY"] {
            command.env(name, &address);
        }
        command
    }

    /// Tunnels that a route has had.
    fn tunnels(&self, route: &str) -> bool {
        self.proxy.metrics().contains(&format!("outrigger_route_tunnels{{route=\"{route}\"}}"))
    }

    /// Nothing of what is the proxy's own business reached the service.
    fn nothing_leaked(&self) {
        for seen in self.upstream.requests() {
            for name in ["proxy-authorization", "proxy-connection", "upgrade", "http2-settings"] {
                assert_eq!(seen.header(name), None, "{seen:?}");
            }
        }
    }
}

/// The lines for a GET and a POST of each page.
const BOTH: &str = "200 /plain?x 0\n200 /plain?x 100000\n200 /secret?x 0\n200 /secret?x 100000\n";

#[tokio::test(flavor = "multi_thread")]
async fn four_libraries_of_python_go_through_a_proxy() {
    let scene = Scene::new().await;
    for library in ["requests", "urllib3", "httpx", "aiohttp"] {
        let mut command = scene.through(python("forward.py"));
        command.args([library, PLAIN, SECRET]).arg(scene.authority());
        assert_eq!(output(command).await, BOTH, "{library}");
    }
    scene.nothing_leaked();
    assert!(scene.tunnels("secret"));
    assert!(!scene.tunnels("plain"), "what is in the clear came through a tunnel");
}

#[tokio::test(flavor = "multi_thread")]
async fn undici_and_the_fetch_of_node_go_through_a_proxy() {
    let scene = Scene::new().await;
    let mut command = scene.through(node("forward.cjs"));
    command.args([PLAIN, SECRET]).arg(scene.authority());
    assert_eq!(output(command).await, BOTH.repeat(2));
    scene.nothing_leaked();
    assert!(scene.tunnels("secret"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_of_java_goes_through_a_proxy_and_its_offers_are_answered() {
    let scene = Scene::new().await;
    let server = WsServer::start();
    let proxy = echo_beside(&scene, server.address).await;
    let mut command = Command::new("java");
    command.arg(program("Forward.java")).arg(proxy.address().port().to_string());
    command.args([PLAIN, SECRET]).arg(scene.authority());
    let direct = "200 /direct 0\n200 /direct 100000\nwebsocket hello\nwebsocket hello\n";
    assert_eq!(output(command).await, format!("{BOTH}{direct}"));
    scene.nothing_leaked();
}

/// A proxy as the scene's, with a server of WebSocket behind `/echo` and behind tunnels to port 80.
async fn echo_beside(scene: &Scene, echo: SocketAddr) -> Proxy {
    // On a connection to the proxy that it has already, Java asks without a tunnel.
    let routes = "  - { name: echo, match: { path: /echo }, upstream: echo }
  - { name: asked, match: { host: svc.test, path: /echo }, upstream: echo }
  - { name: plain, match: { methods: [CONNECT], host: \"svc.test:80\" }, upstream: echo }
";
    let old = routes.lines().last().expect("lines").replace("upstream: echo", "upstream: plain");
    let old = format!("{old}\n");
    let text = scene.proxy.text.replace(&old, routes);
    let text = text.replace("routes:\n", "  echo: { endpoints: [\"{echo}\"] }\nroutes:\n");
    proxy(&text).with("echo", echo).spawn().await
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_goes_through_a_proxy() {
    let scene = Scene::new().await;
    for (arguments, url, expected) in [
        (vec![], PLAIN, "/plain?x 0"),
        (vec![], SECRET, "/secret?x 0"),
        (vec!["--proxytunnel"], PLAIN, "/plain?x 0"),
        (vec!["--proxy1.0", "{proxy}"], SECRET, "/secret?x 0"),
        // Its offer within the tunnel is the service's own business.
        (vec!["--http2"], SECRET, "/secret?x 0"),
        (vec!["--data", "hello"], SECRET, "/secret?x 5"),
    ] {
        let mut command = scene.through(Command::new("curl"));
        command.args(["--silent", "--show-error", "--max-time", "60", "--cacert"]);
        let address = scene.proxy.address().to_string();
        command.arg(scene.authority()).arg(url);
        command.args(arguments.iter().map(|argument| argument.replace("{proxy}", &address)));
        assert_eq!(output(command).await, expected, "{arguments:?} {url}");
    }
    scene.nothing_leaked();
    let mut command = scene.through(Command::new("curl"));
    command.args(["--silent", "--max-time", "60", "https://other.test/"]);
    let refused = run(command, String::new()).await;
    assert_eq!(refused.status.code(), Some(56), "another destination is refused: {refused:?}");
}

/// A server of WebSocket in Python; ended when this is dropped.
struct WsServer {
    process: std::process::Child,
    address: SocketAddr,
}

impl Drop for WsServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl WsServer {
    fn start() -> Self {
        let mut command = python("ws_server.py");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|error| {
            panic!("Python cannot be run; tests/run.sh installs it: {error}")
        });
        let mut lines = std::io::BufReader::new(process.stdout.take().expect("a pipe")).lines();
        let port = lines.next().and_then(Result::ok).expect("it says its port");
        let address = format!("127.0.0.1:{port}").parse().expect("a port");
        Self { process, address }
    }

    /// A proxy in front of it, by requests and by tunnels.
    async fn behind_a_proxy(&self) -> Proxy {
        let yaml = "upstreams: { back: { endpoints: [\"{echo}\"] } }
routes:
  - { name: r, upstream: back }
  - { name: tunnels, match: { methods: [CONNECT], host: \"svc.test:80\" }, upstream: back }
";
        proxy(yaml).with("echo", self.address).spawn().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_pass_between_websockets_of_python() {
    let server = WsServer::start();
    let proxy = server.behind_a_proxy().await;
    let address = proxy.address();
    for arguments in [
        vec![format!("ws://{address}/")],
        vec!["ws://svc.test/".to_owned(), format!("http://{address}")],
    ] {
        let mut command = python("ws_client.py");
        command.args(&arguments);
        let text = output(command).await;
        let [sent, came, code] = text.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("{text:?}")
        };
        assert_eq!((sent, code), (came, "1000"), "{arguments:?}");
    }
    for route in ["r", "tunnels"] {
        let name = "outrigger_route_tunnel_bytes_total";
        for direction in ["up", "down"] {
            let sample = format!("{name}{{route=\"{route}\",direction=\"{direction}\"}}");
            assert!(counted(&proxy, &sample) > 100e6, "{sample}");
        }
        let ends = "outrigger_route_tunnel_ends_total";
        let closed = format!("{ends}{{route=\"{route}\",reason=\"closed\"}}");
        eventually("the tunnel to end", || counted(&proxy, &closed) == 1.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_of_node_and_python_speak_through_the_proxy() {
    let server = WsServer::start();
    let proxy = server.behind_a_proxy().await;
    let mut command = node("ws_client.cjs");
    command.arg(format!("ws://{}/", proxy.address()));
    assert_eq!(output(command).await, "6 1000\n");
}
