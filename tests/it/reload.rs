//! A new configuration under load: nothing fails, state stays, bad files change nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use outrigger::app::Start;
use outrigger::clock;

use crate::support::caller::{Caller, request};
use crate::support::service::{Act, Service};
use crate::support::sidecar::{Sidecar, config, eventually};

/// The text with another total timeout on every route.
fn with_total(text: &str, seconds: usize) -> String {
    text.replace("name: r,", &format!("name: r, timeouts: {{ total: {seconds}s }},"))
}

fn reloads(sidecar: &Sidecar, result: &str) -> f64 {
    sidecar.metric(&format!("outrigger_config_reloads_total{{result=\"{result}\"}}"))
}

fn generation(sidecar: &Sidecar) -> f64 {
    sidecar.metric("outrigger_config_generation")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_load_fail_nothing() {
    let services = [Service::always(200).await, Service::always(200).await];
    let text = config(&[&services[0], &services[1]], "", "");
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    let load = tokio::spawn(async move { caller.load(200, Duration::from_secs(3)).await });
    // Either may be preferred throughout, if the other's first answer was slow.
    tokio::select! {
        () = services[0].reached(5) => {}
        () = services[1].reached(5) => {}
    }
    for number in 0..100 {
        // Settings of the route, the upstream and its endpoints change in turn.
        let text = match number % 4 {
            0 => with_total(&text, 10 + number),
            1 => text.replace("name: r,", "name: r, retry: { max_attempts: 2 },"),
            2 => text.replace("endpoints:", &format!("slow_start: {number}s, endpoints:")),
            _ => config(&[&services[1], &services[0]], &format!("slow_start: {number}s"), ""),
        };
        let reloaded = sidecar.app().proxy.reload(&text).unwrap();
        assert!(reloaded.changed && reloaded.restart_required.is_empty(), "{reloaded:?}");
        clock::sleep(Duration::from_millis(20)).await;
    }
    let load = load.await.unwrap();
    assert_eq!(load.failures(), [""; 0]);
    assert_eq!((reloads(&sidecar, "applied"), generation(&sidecar)), (100.0, 101.0));
    assert_eq!(services[0].hits() + services[1].hits(), 600);
    let live = sidecar.app().proxy.live();
    let set = live.snapshot.upstreams["u"].state.endpoints.load();
    assert!(set.endpoints.iter().all(|endpoint| endpoint.in_flight() == 0));
}

#[tokio::test]
async fn what_was_saved_for_retries_stays() {
    let service = Service::always(200).await;
    let text = config(&[&service], "retry_budget: { ratio: 100%, min_per_second: 0 }", "");
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    for _ in 0..50 {
        caller.get().await;
    }
    let balance = || {
        let live = sidecar.app().proxy.live();
        live.snapshot.upstreams["u"].budget(clock::now()).ratio_millis
    };
    let before = balance();
    assert!(before >= 20_000, "{before}");
    for seconds in 1..=10 {
        let changed = with_total(&text, 20 + seconds)
            .replace("endpoints:", &format!("slow_start: {seconds}s, endpoints:"));
        assert!(sidecar.app().proxy.reload(&changed).unwrap().changed);
    }
    assert!(balance() <= before && balance() >= before / 2, "{before} to {}", balance());
}

#[tokio::test]
async fn what_a_limit_has_counted_stays_unless_its_quota_changes() {
    let service = Service::always(200).await;
    let limit = "rate_limit: { rate: 1/min, burst: 3 }";
    let text = config(&[&service], "", limit);
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    for expected in [200, 200, 200, 429] {
        assert_eq!(caller.get().await.status, expected);
    }
    for seconds in 20..25 {
        sidecar.app().proxy.reload(&with_total(&text, seconds)).unwrap();
        assert_eq!(caller.get().await.status, 429);
    }
    sidecar.app().proxy.reload(&text.replace("burst: 3", "burst: 4")).unwrap();
    assert_eq!(caller.get().await.status, 200);
}

#[tokio::test]
async fn requests_in_flight_finish_on_the_route_they_began_on() {
    let (old, new) = (
        Service::start(|_| Act::Late(Duration::from_millis(400), 201)).await,
        Service::always(202).await,
    );
    let sidecar = Sidecar::start(&config(&[&old], "", ""));
    let caller = sidecar.caller();
    let waiting = tokio::spawn(async move { caller.get().await });
    old.reached(1).await;
    sidecar.app().proxy.reload(&config(&[&new], "", "")).unwrap();
    assert_eq!(sidecar.caller().get().await.status, 202);
    assert_eq!(waiting.await.unwrap().status, 201);
    // The connection to what is gone is not kept.
    old.open(0).await;
}

#[tokio::test]
async fn a_new_route_to_a_new_upstream_lives_at_once_and_one_removed_is_gone() {
    let (first, second) = (Service::always(201).await, Service::always(202).await);
    let text = config(&[&first], "", "");
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    let more = text
        .replace(
            "upstreams: {",
            &format!("upstreams: {{ v: {{ endpoints: [\"{}\"] }},", second.address),
        )
        .replace("routes: [", "routes: [{ name: two, match: { path: /two }, upstream: v }, ");
    for _ in 0..3 {
        sidecar.app().proxy.reload(&more).unwrap();
        assert_eq!(caller.send(request("GET", "/two")).await.status, 202);
        let text_of = || sidecar.app().proxy.metrics.render();
        assert!(text_of().contains("route=\"two\"") && text_of().contains("upstream=\"v\""));
        sidecar.app().proxy.reload(&text).unwrap();
        assert_eq!(caller.send(request("GET", "/two")).await.status, 201);
        assert!(!text_of().contains("\"two\""), "its metrics are gone");
        assert!(!text_of().contains("upstream=\"v\""), "and those of its upstream");
        assert!(text_of().contains("route=\"r\""));
    }
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_is_counted() {
    let (service, other) = (Service::always(200).await, Service::always(200).await);
    let text = config(&[&service], "", "");
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 200);
    let hash = sidecar.app().proxy.live().snapshot.hash.clone();
    let moved = config(&[&other], "", "");
    let new_route = "routes: [{ name: two, match: { path: /two }, upstream: u }, ";
    let bad = [
        "nonsense".to_owned(),
        moved.replace("upstream: u,", "upstream: nobody,"),
        moved.replace("name: r,", "name: r, retry: { max_attempts: 99 },"),
        // What only shows when all is compiled: a pattern, a rewrite, a route that never matches.
        moved.replace("name: r,", "name: r, match: { path_regex: \"(\" },"),
        moved.replace("name: r,", "name: r, rewrite: { path: \"/{nothing}\" },"),
        moved.replace("name: r,", "name: r, headers: { request: { set: { x: \"a\\nb\" } } },"),
        moved.replace("routes: [", "routes: [{ name: all, upstream: u }, "),
        moved
            .replace("routes: [", new_route)
            .replace("name: r,", "name: r, rewrite: { host: \"a b\" },"),
    ];
    for (number, text) in bad.iter().enumerate() {
        let problems = sidecar.app().proxy.reload(text).err();
        let problems = problems.unwrap_or_else(|| panic!("it is taken: {text}"));
        assert!(!problems.is_empty());
        assert_eq!(sidecar.app().proxy.last_problems().len(), problems.len());
        assert_eq!(reloads(&sidecar, "rejected"), (number + 1) as f64);
        for _ in 0..3 {
            assert_eq!(caller.get().await.status, 200);
        }
        assert_eq!((other.hits(), service.hits()), (0, 4 + 3 * number), "{text}");
        let metrics = sidecar.app().proxy.metrics.render();
        assert!(!metrics.contains(&other.address.to_string()), "{text}");
        assert!(!metrics.contains("\"two\"") && !metrics.contains("\"all\""), "{text}");
    }
    assert_eq!((generation(&sidecar), reloads(&sidecar, "applied")), (1.0, 0.0));
    assert_eq!(sidecar.app().proxy.live().snapshot.hash, hash);
    // The next good one clears the complaint.
    sidecar.app().proxy.reload(&moved).unwrap();
    assert!(sidecar.app().proxy.last_problems().is_empty());
    assert_eq!(caller.get().await.status, 200);
    assert_eq!(other.hits(), 1);
}

#[tokio::test]
async fn the_same_text_again_changes_nothing() {
    let service = Service::always(200).await;
    let text = config(&[&service], "", "");
    let sidecar = Sidecar::start(&text);
    let hash = sidecar.app().proxy.live().snapshot.hash.clone();
    let shown = format!("outrigger_config_info{{hash=\"{hash}\"}}");
    assert_eq!(sidecar.metric(&shown), 1.0);
    let again = sidecar.app().proxy.reload(&format!("# a comment\n{text}")).unwrap();
    assert!(!again.changed && again.generation == 1);
    assert_eq!((reloads(&sidecar, "unchanged"), generation(&sidecar)), (1.0, 1.0));
    let changed = sidecar.app().proxy.reload(&with_total(&text, 9)).unwrap();
    assert!(changed.changed && changed.generation == 2 && changed.hash != hash);
    assert_eq!(sidecar.sample(&shown), None, "one hash at a time");
    assert_eq!(sidecar.metric(&format!("outrigger_config_info{{hash=\"{}\"}}", changed.hash)), 1.0);
    assert_eq!(generation(&sidecar), 2.0);
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_is_done() {
    let service = Service::always(200).await;
    let text = config(&[&service], "", "");
    let sidecar = Sidecar::start(&text);
    let changed = with_total(&text, 9)
        .replace("workers: 1", "workers: 2")
        .replace("bind: 127.0.0.1:0 }]", "bind: 127.0.0.1:1 }, { name: new, bind: 127.0.0.1:0 }]");
    let reloaded = sidecar.app().proxy.reload(&changed).unwrap();
    let all = reloaded.restart_required.join("; ");
    assert_eq!(reloaded.restart_required.len(), 3, "{all}");
    for key in ["runtime.workers", "`in`", "`new`"] {
        assert!(all.contains(key), "{key}: {all}");
    }
    assert_eq!(sidecar.caller().get().await.status, 200);
    let live = sidecar.app().proxy.live();
    assert_eq!(live.snapshot.routes[0].settings.timeouts.total.unwrap().as_secs(), 9);
}

#[tokio::test]
async fn the_mode_of_a_socket_needs_a_restart() {
    let service = Service::always(200).await;
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("{{ name: socket, bind: \"unix:{}/s\"", folder.path().display());
    let tcp = "bind: 127.0.0.1:0 }]";
    let text =
        config(&[&service], "", "").replace(tcp, &format!("bind: 127.0.0.1:0 }}, {socket} }}]"));
    let sidecar = Sidecar::start(&text);
    let changed = text.replace(&socket, &format!("{socket}, socket_mode: \"0600\""));
    let reloaded = sidecar.app().proxy.reload(&changed).unwrap();
    assert_eq!(reloaded.restart_required, ["listeners: socket_mode of `socket`"]);
}

/// A file that is watched, and the status that its route gives.
struct Watched {
    folder: tempfile::TempDir,
    file: PathBuf,
    sidecar: Sidecar,
    caller: Caller,
}

/// The configuration under which all is answered by this service.
fn watched_text(service: &Service) -> String {
    config(&[service], "", "").replace("reload: { watch: false }", "reload: { watch: true }")
}

impl Watched {
    fn start(text: &str, place: impl FnOnce(&Path, &str) -> PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = place(folder.path(), text);
        let sidecar = Sidecar::with(Start::new(text.to_owned(), Some(file.clone()), None));
        let caller = sidecar.caller();
        Self { folder, file, sidecar, caller }
    }

    async fn becomes(&self, expected: u16) {
        eventually("the file is read again", async || self.caller.get().await.status == expected)
            .await;
    }
}

fn plain(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("outrigger.yaml");
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test]
async fn the_file_is_watched() {
    let services = [Service::always(201).await, Service::always(202).await];
    let [one, two] = [watched_text(&services[0]), watched_text(&services[1])];
    let watched = Watched::start(&one, plain);
    watched.becomes(201).await;
    // In place, as an editor or a shell does.
    std::fs::write(&watched.file, &two).unwrap();
    watched.becomes(202).await;
    // By a rename, as careful programs do.
    let other = watched.folder.path().join("new");
    std::fs::write(&other, &one).unwrap();
    std::fs::rename(&other, &watched.file).unwrap();
    watched.becomes(201).await;
    // A bad one is counted, and the next good one is taken all the same.
    std::fs::write(&watched.file, "listeners: [{ nme: in }]").unwrap();
    eventually("it is refused", async || reloads(&watched.sidecar, "rejected") >= 1.0).await;
    assert_eq!(watched.caller.get().await.status, 201);
    std::fs::write(&watched.file, &two).unwrap();
    watched.becomes(202).await;
}

#[tokio::test]
async fn a_mounted_config_map_is_watched() {
    use std::os::unix::fs::symlink;
    let services = [Service::always(201).await, Service::always(202).await];
    let [one, two] = [watched_text(&services[0]), watched_text(&services[1])];
    // As the kubelet lays it out: the file is a link through `..data` to a folder of one version.
    let watched = Watched::start(&one, |folder, text| {
        std::fs::create_dir(folder.join("..v1")).unwrap();
        std::fs::write(folder.join("..v1/outrigger.yaml"), text).unwrap();
        symlink("..v1", folder.join("..data")).unwrap();
        symlink("..data/outrigger.yaml", folder.join("outrigger.yaml")).unwrap();
        folder.join("outrigger.yaml")
    });
    watched.becomes(201).await;
    for (version, text, expected) in [(1, &two, 202), (2, &one, 201), (3, &two, 202)] {
        let folder = watched.folder.path();
        let (old, new) = (format!("..v{version}"), format!("..v{}", version + 1));
        std::fs::create_dir(folder.join(&new)).unwrap();
        std::fs::write(folder.join(&new).join("outrigger.yaml"), text).unwrap();
        symlink(&new, folder.join("..data_new")).unwrap();
        std::fs::rename(folder.join("..data_new"), folder.join("..data")).unwrap();
        std::fs::remove_dir_all(folder.join(&old)).unwrap();
        watched.becomes(expected).await;
    }
}

#[tokio::test]
async fn a_file_that_is_not_watched_is_read_when_asked() {
    let services = [Service::always(201).await, Service::always(202).await];
    let text = config(&[&services[0]], "", "");
    let watched = Watched::start(&text, plain);
    std::fs::write(&watched.file, config(&[&services[1]], "", "")).unwrap();
    assert_eq!(watched.caller.get().await.status, 201);
    assert!(watched.sidecar.app().proxy.reload_from_file().unwrap().changed);
    assert_eq!(watched.caller.get().await.status, 202);
    std::fs::remove_file(&watched.file).unwrap();
    let problems = watched.sidecar.app().proxy.reload_from_file().unwrap_err();
    assert!(problems[0].message.contains("cannot read"), "{problems:?}");
    assert_eq!(reloads(&watched.sidecar, "rejected"), 1.0);
    assert_eq!(watched.caller.get().await.status, 202);
}

#[tokio::test]
async fn what_was_learned_of_an_endpoint_stays() {
    let (bad, good) = (Service::always(500).await, Service::always(200).await);
    let upstream = "load_balancing: { policy: round_robin }, \
                    ejection: { consecutive_failures: 2, base: 60s }";
    let alone = "retry: { mode: off }, circuit_breaker: { mode: off }";
    let text = config(&[&bad, &good], upstream, alone);
    let sidecar = Sidecar::start(&text);
    let caller = sidecar.caller();
    while sidecar.metric("outrigger_upstream_ejections_total{upstream=\"u\"}") < 1.0 {
        caller.get().await;
    }
    for seconds in 1..5 {
        let text = text.replace("ejection:", &format!("slow_start: {seconds}s, ejection:"));
        assert!(sidecar.app().proxy.reload(&text).unwrap().changed);
        for _ in 0..4 {
            assert_eq!(caller.get().await.status, 200, "the ejected one stays out");
        }
    }
    assert_eq!(bad.hits(), 2);
    assert!(good.connections() <= 2, "connections are kept: {}", good.connections());
}
