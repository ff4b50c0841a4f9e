use std::io::Write;

use super::*;
use crate::config::problem::Problem;
use crate::config::testing::{Fixed, file};
use crate::config::{Loaded, read};

fn environment() -> Fixed {
    let mut env = Fixed::default();
    env.variables.insert("HOST", "pay.internal");
    env.variables.insert("TRIES", "2");
    env.variables.insert("EMPTY", "");
    env.variables.insert("NAUGHTY", "x }, injected: { y: z");
    env.files.insert("/run/secret", "hunter2hunter2\n");
    env
}

fn with(upstream: &str, route: &str) -> Result<Loaded, Vec<Problem>> {
    read(&file(upstream, route), &environment())
}

#[test]
fn variables_and_files_are_put_into_scalars() {
    let route = "match: { host: \"${HOST}\", headers: { x-a: \"a-${TRIES}-$${HOST}-$5\" } }, \
                 retry: { max_attempts: \"${TRIES}\" }, headers: { request: { set: { \
                 x-k: \"Bearer ${file:/run/secret}\", x-e: \"${EMPTY}\" } } }";
    let config = with("", route).unwrap().config;
    let route = &config.routes[0];
    assert_eq!(route.matches.host.as_deref(), Some("pay.internal"));
    let exact = crate::config::route::ValueMatch::Exact("a-2-${HOST}-$5".to_owned());
    assert_eq!(route.matches.headers["x-a"], exact);
    assert_eq!(route.retry.max_attempts, 2);
    assert_eq!(route.headers.request.set["x-k"], "Bearer hunter2hunter2");
    assert_eq!(route.headers.request.set["x-e"], "");
}

#[test]
fn what_comes_in_cannot_add_settings() {
    let config = with("", "headers: { request: { set: { x-n: \"${NAUGHTY}\" } } }").unwrap().config;
    assert_eq!(config.routes[0].headers.request.set["x-n"], "x }, injected: { y: z");
}

#[test]
fn what_cannot_be_put_in_is_one_problem_at_its_place() {
    for (reference, message) in [
        ("${MISSING}", "the environment variable `MISSING` is not set"),
        ("${file:/nowhere}", "`/nowhere` cannot be read: no such file"),
        ("${file:relative}", "needs an absolute path"),
        ("${HOST", "is not closed"),
        ("${HOST:-x}", "is not a reference"),
        ("${}", "is not a reference"),
    ] {
        let problems =
            with("", &format!("retry: {{ max_attempts: \"{reference}\" }}")).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:#?}");
        assert_eq!(problems[0].path, "routes[0].retry.max_attempts");
        assert_eq!((problems[0].line, problems[0].column), (5, 52));
        assert!(problems[0].message.contains(message), "{problems:#?}");
    }
}

#[test]
fn a_value_from_outside_is_not_in_the_problem_that_it_causes() {
    for key in [
        "timeouts: { total: \"${file:/run/secret}\" }",
        "retry: { mode: \"${file:/run/secret}\" }",
        "retry: { max_attempts: \"${file:/run/secret}\" }",
        "rewrite: { host: \"x ${file:/run/secret}\" }",
        "match: { listeners: [\"${file:/run/secret}\"] }",
    ] {
        let problems = with("", key).unwrap_err();
        let text = format!("{problems:?}");
        assert!(!text.contains("hunter2") && text.contains("***"), "{text}");
    }
    // Too short to be searched for in other texts, but known to be here.
    let problems = with("", "timeouts: { total: \"${TRIES}\" }").unwrap_err();
    assert!(problems[0].message.starts_with("`***` is not a length of time"), "{problems:#?}");
}

#[test]
fn many_references_to_a_long_value_are_bounded() {
    let long: &'static str = "x".repeat(1 << 20).leak();
    let mut env = Fixed::default();
    env.variables.insert("LONG", long);
    let fields: Vec<String> = (0..17).map(|n| format!("x-{n}: \"${{LONG}}\"")).collect();
    let query = format!("match: {{ query: {{ {} }} }}", fields.join(", "));
    let problems = read(&file("", &query), &env).unwrap_err();
    let over = |p: &&Problem| p.message.contains("the values put in are larger than 16 MiB");
    assert_eq!(problems.iter().filter(over).count(), 1, "{}", problems.len());
}

#[test]
fn the_process_reads_regular_files_of_a_bounded_size() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let mut out = File::create(&path).unwrap();
    out.write_all(b"abc\n").unwrap();
    assert_eq!(ProcessEnvironment.file(&path).unwrap(), "abc\n");
    let most = usize::try_from(MAX_VALUE_BYTES).unwrap();
    std::fs::write(&path, "x".repeat(most)).unwrap();
    assert_eq!(ProcessEnvironment.file(&path).unwrap().len(), most);
    std::fs::write(&path, "x".repeat(most + 1)).unwrap();
    assert_eq!(ProcessEnvironment.file(&path).unwrap_err(), "it is larger than 64 KiB");
    assert_eq!(ProcessEnvironment.file(folder.path()).unwrap_err(), "it is not a regular file");
    assert!(ProcessEnvironment.file(&folder.path().join("none")).is_err());
    assert_eq!(ProcessEnvironment.variable("OUTRIGGER_NOT_SET_ANYWHERE"), Ok(None));
    assert!(ProcessEnvironment.variable("PATH").unwrap().is_some());
}
