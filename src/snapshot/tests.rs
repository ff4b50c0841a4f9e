use super::*;
use crate::config::ProcessEnvironment;
use crate::policy::retry::Suppressed;

const FILE: &str = r#"
listeners: [{ name: in, bind: "127.0.0.1:0" }]
upstreams:
  back: { endpoints: ["127.0.0.1:1"] }
routes:
  - { name: r, upstream: back }
"#;

/// Other endpoints, a lower limit, a new upstream and a new route.
const CHANGED: &str = r#"
listeners: [{ name: in, bind: "127.0.0.1:0" }]
upstreams:
  back: { endpoints: ["127.0.0.1:2", "127.0.0.1:3"], pool: { max_connections: 7 } }
  new: { endpoints: ["127.0.0.1:4"] }
routes:
  - { name: r, upstream: back }
  - { name: other, match: { host: other.test }, upstream: new }
"#;

fn read(text: &str) -> Loaded {
    config::read(text, &ProcessEnvironment).unwrap()
}

fn endpoints(snapshot: &Snapshot) -> Vec<String> {
    let set = snapshot.upstreams["back"].state.endpoints.load();
    set.endpoints.iter().map(|endpoint| endpoint.name.to_string()).collect()
}

/// The exposition without what the process itself has used meanwhile.
fn exposed(metrics: &Metrics) -> String {
    let text = metrics.render();
    text.lines().filter(|line| line.contains("outrigger_")).collect::<Vec<_>>().join("\n")
}

type Spoil = fn(&mut config::route::Route);

/// What is refused only when it is compiled. Much of it is found before, in the validation of the
/// file, so it is put behind that.
const WRONG: [(Spoil, &str); 4] = [
    (|route| route.headers.request.remove.push("te".to_owned()), "headers.request"),
    (|route| route.headers.response.remove.push("host".to_owned()), "headers.response"),
    (|route| route.rewrite = Some(climbing()), "rewrite"),
    (|route| route.upstream = Some("nowhere".to_owned()), "upstream"),
];

fn climbing() -> config::route::Rewrite {
    config::route::Rewrite { path: Some("/a/../b".to_owned()), ..Default::default() }
}

#[test]
fn a_refused_configuration_changes_nothing() {
    let metrics = Metrics::new(Suppressed::NAMES);
    let running = Snapshot::compile(read(FILE), None, &metrics, &Registry::default()).unwrap();
    let before = exposed(&metrics);
    for (wrong, key) in WRONG {
        let mut loaded = read(CHANGED);
        wrong(&mut loaded.config.routes[1]);
        let refused = Snapshot::compile(loaded, Some(&running), &metrics, &Registry::default());
        let problems = refused.err().unwrap_or_else(|| panic!("{key} was taken"));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(
            (problems[0].path.as_str(), problems[0].line),
            (&*format!("routes[1].{key}"), 8)
        );
        assert_eq!(endpoints(&running), ["127.0.0.1:1"], "{key}");
        assert_eq!(exposed(&metrics), before, "{key}");
    }
    let next =
        Snapshot::compile(read(CHANGED), Some(&running), &metrics, &Registry::default()).unwrap();
    assert_eq!(endpoints(&next), ["127.0.0.1:2", "127.0.0.1:3"]);
    assert_eq!(endpoints(&running), endpoints(&next), "the state is one");
    assert_ne!(exposed(&metrics), before);
}

#[test]
fn what_has_kept_its_name_keeps_its_state() {
    let metrics = Metrics::new(Suppressed::NAMES);
    let running = Snapshot::compile(read(FILE), None, &metrics, &Registry::default()).unwrap();
    let next =
        Snapshot::compile(read(CHANGED), Some(&running), &metrics, &Registry::default()).unwrap();
    assert!(Arc::ptr_eq(&running.upstreams["back"].state, &next.upstreams["back"].state));
    assert!(Arc::ptr_eq(&running.routes[0].metrics, &next.routes[0].metrics));
    let circuits = [&running, &next].map(|snapshot| snapshot.routes[0].circuit("back").unwrap());
    assert!(Arc::ptr_eq(circuits[0], circuits[1]));
    assert_eq!((running.generation, next.generation), (1, 2));
}
