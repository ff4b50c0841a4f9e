use std::collections::BTreeMap;

use crate::config::testing::{Fixed, file, problems};
use crate::config::{Loaded, Problem, read, to_json, to_yaml};

const KEY: &str = "Bw8XHycvNz9HT1dfZ293f4ePl5+nr7e/x8/X3+fv9/8=";

fn with(stores: &str) -> String {
    format!("{}stores: {{ {stores} }}\n", file("", ""))
}

fn one(stores: &str, problem: &str) {
    let found = problems(&with(stores));
    assert_eq!(found.len(), 1, "{found:#?}\n{stores}");
    assert!(found[0].contains(problem), "{found:#?}");
}

fn from_outside(stores: &str, key: &'static str) -> Result<Loaded, Vec<Problem>> {
    let variables = BTreeMap::from([("KEY", key), ("URL", "redis://me:hunter2@host:6379/0")]);
    read(&with(stores), &Fixed { variables, ..Fixed::default() })
}

#[test]
fn each_kind_is_read() {
    for store in [
        "memory: {}",
        "embedded: { path: /x/records.redb }",
        "redis: { url: 'redis://127.0.0.1:6379' }",
        "redis: { url: 'redis://me:pass@host/3' }",
        "redis: { url: 'redis://a:1,redis://b:1' }",
        "redis: { url: 'rediss://[::1]:7000', ca: /ca.pem }",
        "redis: { url: 'unix:/run/redis.sock' }",
        "redis: { url: 'unix:///run/redis.sock' }",
        "etcd: { endpoints: ['http://a:2379', 'http://b:2379/'] }",
        "etcd: { endpoints: ['https://[::1]:2379'], ca: /ca.pem }",
    ] {
        let found = problems(&with(&format!("s: {{ {store} }}")));
        assert!(found.is_empty(), "{store}: {found:#?}");
    }
}

#[test]
fn a_store_is_of_exactly_one_kind() {
    one("s: {}", "stores.s.memory: is missing, as are `embedded`, `redis` and `etcd`");
    one(
        "s: { memory: {}, redis: { url: 'redis://h' } }",
        "stores.s.redis: stands beside `memory`; a store is of one kind",
    );
    one("s: { memry: {} }", "did you mean `memory`?");
}

#[test]
fn addresses_of_redis_are_checked_and_never_shown() {
    for bad in [
        "http://me:hunter2@h",
        "redis:me:hunter2@h",
        "redis://me:hunter2@",
        "redis://me:hunt/er2@h:1",
        "redis://me:hunter2@h:70000",
        "redis://me:hunter2@h/zero",
        "redis://h,hunter2",
        "unix:hunter2",
        "unix:/",
        "",
    ] {
        let found = problems(&with(&format!("s: {{ redis: {{ url: '{bad}' }} }}")));
        assert_eq!(found.len(), 1, "{bad}: {found:#?}");
        assert!(found[0].contains("is none of Redis"), "{found:#?}");
        assert!(!found[0].contains("hunt"), "{found:#?}");
    }
    one(
        "s: { redis: { url: 'redis://h', ca: /ca.pem } }",
        "stores.s.redis.ca: has no effect without TLS",
    );
    one("s: { redis: { url: 'redis://h', op_timeout: 1ms } }", "it must be from 20ms to 5s");
    one("s: { redis: { url: 'redis://h', prefix: '{a}' } }", "has spaces, control characters or");
    one("s: { redis: { url: 'redis://h', prefix: '' } }", "must be 1 to 128 bytes long");
}

#[test]
fn members_of_etcd_are_addresses() {
    one("s: { etcd: { endpoints: [] } }", "is empty; write the members");
    one("s: { etcd: { endpoints: ['http://a'] } }", "endpoints[0]: is no member's address");
    one("s: { etcd: { endpoints: ['http://u:p@a:1'] } }", "has a user in it");
    one("s: { etcd: { endpoints: ['http://a:1', 'http://a:1'] } }", "is in this list already");
    one("s: { etcd: { endpoints: ['http://a:1', 'https://b:1'] } }", "write them all alike");
    one("s: { etcd: { endpoints: ['http://a:1'], ca: /x } }", "etcd.ca: has no effect without TLS");
}

#[test]
fn no_two_stores_have_one_file() {
    one(
        "a: { embedded: { path: /f } }, b: { redis: { url: 'redis://h', spool: /f } }",
        "stores.b.redis.spool: is the file of `stores.a.embedded.path` as well",
    );
}

#[test]
fn secrets_come_from_outside() {
    one(
        &format!("s: {{ memory: {{}}, aead_key: '{KEY}' }}"),
        "stores.s.aead_key: stands in the file",
    );
    let stores = "s: { memory: {}, aead_key: '${KEY}', fingerprint_key: '${KEY}' }";
    let loaded = from_outside(stores, KEY).unwrap();
    let store = &loaded.config.stores["s"];
    assert_eq!(store.seal_key(), store.digest_key());
    assert!(store.seal_key().is_some());
    let found = from_outside(stores, "c2hvcnQgYW5kIHNlY3JldA==").unwrap_err();
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].message.contains("is not 32 bytes in base64"), "{found:#?}");
    assert!(!format!("{found:?}").contains("c2hvcnQg"));
}

#[test]
fn nothing_secret_is_printed_back() {
    let stores = "s: { memory: {}, aead_key: '${KEY}' }, a: { redis: { url: '${URL}' } }, \
                  b: { redis: { url: 'redis://me:hunter2@b:1,redis://me:hunter3@c:1/2' } }";
    let loaded = from_outside(stores, KEY).unwrap();
    let yaml = to_yaml(&loaded.config, &loaded.secrets).unwrap();
    let json = to_json(&loaded.config, &loaded.secrets).unwrap().to_string();
    for shown in [yaml, json, format!("{:?}", loaded.config)] {
        assert!(!shown.contains("hunter") && !shown.contains(KEY), "{shown}");
    }
    let yaml = to_yaml(&loaded.config, &loaded.secrets).unwrap();
    assert!(yaml.contains("redis://***@b:1,redis://***@c:1/2"), "{yaml}");
}
