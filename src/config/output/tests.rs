use crate::config::testing::{Fixed, file, good};
use crate::config::{read, to_yaml};

#[test]
fn what_is_printed_reads_back_to_the_same_settings() {
    let text = file(
        "health_check: { path: /live }, load_balancing: { policy: ring_hash, hash_on: client_ip }",
        "match: { headers: { a: x, b: { regex: y }, c: { present: false } }, path_prefix: /v1 }, \
         retry: { on: [503, 5xx, grpc:internal] }, rate_limit: { rate: 5/min }, \
         timeouts: { total: null }",
    );
    let first = good(&text);
    let printed = to_yaml(&first.config, &first.secrets).unwrap();
    let second = good(&printed);
    assert_eq!(first.config, second.config);
    assert_eq!(first.hash, second.hash);
}

#[test]
fn secrets_are_masked_wherever_they_are() {
    let mut env = Fixed::default();
    env.variables.insert("KEY", "correct-horse");
    env.variables.insert("PORT", "80");
    let text = file(
        "zone: \"${KEY}\"",
        "headers: { request: { set: { x-a: \"k ${KEY}\", \
         Authorization: Basic abcdef, x-api-key: k1, \
         x-port: \"${PORT}\", x-plain: 'correct-horse and 80' }, \
         add: { My-Token-Id: t0k, accept: json } } }, \
         match: { headers: { x-secret: s1, accept: a } }, retry: { max_attempts: \"${PORT}\" }",
    );
    let text = text.replace("max_attempts: \"${PORT}\"", "max_attempts: 2");
    let loaded = read(&text, &env).unwrap();
    let printed = to_yaml(&loaded.config, &loaded.secrets).unwrap();
    for secret in ["correct-horse", "Basic", "k1", "t0k", "s1"] {
        assert!(!printed.contains(secret), "{secret} in\n{printed}");
    }
    for line in [
        "zone: '***'",
        "x-a: '***'",
        "x-port: '***'",
        "x-plain: '*** and 80'",
        "accept: json",
        "10.0.0.1:80",
        "token_file: null",
    ] {
        assert!(printed.contains(line), "{line} not in\n{printed}");
    }
    assert!(!format!("{:?}", loaded.secrets).contains("horse"));
}

#[test]
fn a_secret_in_a_default_is_masked_in_every_route_that_takes_it() {
    let mut env = Fixed::default();
    env.variables.insert("K", "1234");
    let text = format!(
        "{}defaults: {{ route: {{ headers: {{ request: {{ set: {{ x-k: \"${{K}}\" }} }} }} }} }}\n",
        file("", "")
    );
    let loaded = read(&text, &env).unwrap();
    assert_eq!(loaded.config.routes[0].headers.request.set["x-k"], "1234");
    let printed = to_yaml(&loaded.config, &loaded.secrets).unwrap();
    assert!(!printed.contains("1234"), "{printed}");
    assert_eq!(printed.matches("x-k: '***'").count(), 2, "{printed}");
}
