//! Certificates that change while the proxy runs, and those that had better not.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use outrigger::app::{App, Start, StartError};

use crate::support::child::command;
use crate::support::proxy::{Proxy, one_route};
use crate::support::secure::{Authority, Issued, TlsClient, replace, tls_client};
use crate::support::{eventually, upstream};

async fn serving(folder: &Path, tls: &str) -> (Proxy, crate::support::upstream::Upstream) {
    let upstream = upstream().spawn().await;
    let tls = tls.replace("{folder}", &folder.display().to_string());
    let settings = format!("tls: {{ {tls} }}");
    (one_route(&upstream, "").listening(&settings).spawn().await, upstream)
}

fn swaps(proxy: &Proxy, result: &str) -> f64 {
    proxy.metric(&format!("outrigger_tls_file_changes_total{{result=\"{result}\"}}"))
}

async fn shows(client: &TlsClient, issued: &Issued) -> bool {
    issued.is_shown_by(&client.connect("svc.test").await.expect("a handshake"))
}

async fn comes_to_show(client: &TlsClient, issued: &Issued) {
    crate::support::within("the new certificate", async {
        while !shows(client, issued).await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_change_under_load_and_no_handshake_fails() {
    let (authority, folder) = (Authority::new("one"), tempfile::tempdir().unwrap());
    let pair = authority.issue(&["svc.test"]).write(folder.path(), "svc");
    let (proxy, _upstream) = serving(folder.path(), &pair).await;
    let (ended, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let client = tls_client(proxy.address(), &authority);
            let (ended, done) = (Arc::clone(&ended), Arc::clone(&done));
            tokio::spawn(async move {
                while !ended.load(Ordering::Relaxed) {
                    assert_eq!(client.get("svc.test").await.expect("a handshake"), 200);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let looking = tls_client(proxy.address(), &authority);
    for _ in 0..10 {
        let before = done.load(Ordering::Relaxed);
        let next = authority.issue(&["svc.test"]);
        // One file after the other: between them the pair does not fit, and is not taken.
        next.write(folder.path(), "svc");
        comes_to_show(&looking, &next).await;
        eventually("some more handshakes", || done.load(Ordering::Relaxed) >= before + 40).await;
    }
    ended.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no handshake fails");
    }
    assert!(swaps(&proxy, "applied") >= 10.0);
    assert!(done.load(Ordering::Relaxed) >= 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_fault_is_reported_and_changes_nothing() {
    let (authority, folder) = (Authority::new("one"), tempfile::tempdir().unwrap());
    let first = authority.issue(&["svc.test"]);
    let pair = first.write(folder.path(), "svc");
    let (proxy, _upstream) = serving(folder.path(), &pair).await;
    let client = tls_client(proxy.address(), &authority);
    let (cert, key) = (folder.path().join("svc.crt"), folder.path().join("svc.key"));
    let refused = "outrigger_tls_files_refused{side=\"listener\",name=\"in\"}";
    let measured = || {
        let live = proxy.app().proxy.live();
        live.snapshot.measure_tls(&proxy.app().proxy.metrics, outrigger::clock::wall_now());
        live.snapshot.tls().remove(0)
    };
    let other = authority.issue(&["svc.test"]);
    let faults = [
        (cert.as_path(), "not a certificate", "has no section `BEGIN CERTIFICATE`"),
        (&cert, &other.cert, "is not the private key of the certificate"),
        (&key, "", "has no section `BEGIN PRIVATE KEY`"),
        (&cert, &authority.issue_until(&["svc.test"], 2020).cert, "has no section"),
    ];
    for (count, (path, content, why)) in faults.into_iter().enumerate() {
        replace(path, content);
        eventually("the report", || swaps(&proxy, "rejected") > count as f64).await;
        let problem = measured().problem.expect("it is refused");
        assert!(problem.contains(why), "{problem}");
        assert_eq!(proxy.metric(refused), 1.0);
        assert!(shows(&client, &first).await, "{why}");
    }
    std::fs::remove_file(&cert).unwrap();
    eventually("the report", || swaps(&proxy, "rejected") >= 5.0).await;
    assert!(shows(&client, &first).await);
    // A whole pair that has expired is not better than one that has not.
    authority.issue_until(&["svc.test"], 2020).write(folder.path(), "svc");
    eventually("the report", || {
        measured().problem.is_some_and(|problem| problem.contains("has expired already"))
    })
    .await;
    assert!(shows(&client, &first).await);
    other.write(folder.path(), "svc");
    comes_to_show(&client, &other).await;
    assert!(measured().problem.is_none());
    assert_eq!(proxy.metric(refused), 0.0);
    let expiry = format!(
        "outrigger_tls_certificate_expires_seconds{{side=\"listener\",name=\"in\",file=\"{}\"}}",
        cert.display()
    );
    let years = proxy.metric(&expiry) / (365.25 * 86_400.0);
    assert!((20.0..30.0).contains(&years), "{years}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_links_of_a_mounted_secret_are_followed() {
    let (authority, folder) = (Authority::new("one"), tempfile::tempdir().unwrap());
    let (first, second) = (authority.issue(&["svc.test"]), authority.issue(&["svc.test"]));
    // As the kubelet writes a secret: the files are links through `..data` to a folder of a date.
    let mounted = |version: &str, issued: &Issued| {
        let inside = folder.path().join(version);
        std::fs::create_dir(&inside).unwrap();
        issued.write(&inside, "tls");
        let link = folder.path().join("..data_tmp");
        std::os::unix::fs::symlink(version, &link).unwrap();
        std::fs::rename(link, folder.path().join("..data")).unwrap();
    };
    mounted("..2026_01", &first);
    for file in ["tls.crt", "tls.key"] {
        let target = Path::new("..data").join(file);
        std::os::unix::fs::symlink(target, folder.path().join(file)).unwrap();
    }
    let (proxy, _upstream) =
        serving(folder.path(), "cert: {folder}/tls.crt, key: {folder}/tls.key").await;
    let client = tls_client(proxy.address(), &authority);
    assert!(shows(&client, &first).await);
    mounted("..2026_02", &second);
    std::fs::remove_dir_all(folder.path().join("..2026_01")).unwrap();
    comes_to_show(&client, &second).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_authorities_end_sessions_that_the_old_ones_vouched_for() {
    let (server, old, new) = (Authority::new("s"), Authority::new("old"), Authority::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let pair = server.issue(&["svc.test"]).write(folder.path(), "svc");
    let ca = folder.path().join("ca.pem");
    replace(&ca, &old.pem);
    let tls = format!("{pair}, client_ca: {}", ca.display());
    let (proxy, _upstream) = serving(folder.path(), &tls).await;
    let known = tls_client(proxy.address(), &server).showing(&server, &old.issue(&["a.test"]));
    for _ in 0..2 {
        assert_eq!(known.get("svc.test").await.unwrap(), 200);
    }
    let resumed = "outrigger_listener_tls_handshakes_total{listener=\"in\",result=\"resumed\"}";
    assert_eq!(proxy.metric(resumed), 1.0);
    replace(&ca, &new.pem);
    eventually("the new authority", || swaps(&proxy, "applied") == 1.0).await;
    known.get("svc.test").await.expect_err("its authority is not believed any more");
    let next = tls_client(proxy.address(), &server).showing(&server, &new.issue(&["a.test"]));
    assert_eq!(next.get("svc.test").await.unwrap(), 200);
    assert_eq!(proxy.metric(resumed), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_carries_tls_over_and_takes_new_settings_whole() {
    let (authority, folder) = (Authority::new("one"), tempfile::tempdir().unwrap());
    let (first, second) = (authority.issue(&["svc.test"]), authority.issue(&["svc.test"]));
    let pair = first.write(folder.path(), "svc");
    let (proxy, _upstream) = serving(folder.path(), &pair).await;
    let client = tls_client(proxy.address(), &authority);
    assert_eq!(client.get("svc.test").await.unwrap(), 200);
    let text = proxy.text.clone();
    let reloaded = proxy.app().proxy.reload(&text.replace("name: r", "name: renamed")).unwrap();
    assert!(reloaded.changed && reloaded.restart_required.is_empty(), "{reloaded:?}");
    assert_eq!(client.get("svc.test").await.unwrap(), 200);
    // The keys of its tickets were carried over, so the session goes on.
    let resumed = "outrigger_listener_tls_handshakes_total{listener=\"in\",result=\"resumed\"}";
    assert_eq!(proxy.metric(resumed), 1.0);

    let bad = text.replace("svc.key", "svc.kye");
    let problems = proxy.app().proxy.reload(&bad).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].path, "listeners[0].tls.key");
    assert_eq!(problems[0].suggestion, Some(folder.path().join("svc.key").display().to_string()));
    assert!(shows(&client, &first).await);

    let other = second.write(folder.path(), "other");
    proxy.app().proxy.reload(&text.replace(&pair, &other)).unwrap();
    assert!(shows(&client, &second).await);
}

#[test]
fn all_faults_of_all_files_are_told_at_once_with_their_places() {
    let (authority, folder) = (Authority::new("one"), tempfile::tempdir().unwrap());
    let at = folder.path().display();
    let (a, b) = (authority.issue(&["a.test"]), authority.issue(&["b.test"]));
    a.write(folder.path(), "a");
    b.write(folder.path(), "b");
    let text = format!(
        "listeners:
  - name: in
    bind: 127.0.0.1:0
    tls:
      certificates:
        - {{ cert: {at}/a.crt, key: {at}/b.key }}
        - {{ cert: {at}/b.crt, key: {at}/b.keys }}
      client_ca: {at}/a.key
upstreams:
  u: {{ endpoints: [\"127.0.0.1:1\"], tls: {{ ca: {at}/none.pem }} }}
routes:
  - {{ name: r, upstream: u }}
  - {{ name: never, upstream: u }}
"
    );
    let Err(StartError::Config(problems)) = App::start(Start::new(text.clone(), None, None)) else {
        panic!("it does not start");
    };
    let found: Vec<_> = problems.iter().map(|p| (p.line, p.path.as_str())).collect();
    assert_eq!(
        found,
        [
            (6, "listeners[0].tls.certificates[0].key"),
            (7, "listeners[0].tls.certificates[1].key"),
            (8, "listeners[0].tls.client_ca"),
            (10, "upstreams.u.tls.ca"),
            (13, "routes[1].match"),
        ],
        "{problems:#?}"
    );
    let file = folder.path().join("outrigger.yaml");
    std::fs::write(&file, text).unwrap();
    let output = command().arg("check").arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    for part in ["is not the private key of the certificate", "did you mean", "is a private key;"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    for key in [&a.key, &b.key] {
        assert!(!said.contains(key.lines().nth(1).unwrap()), "a key is printed");
    }
}
