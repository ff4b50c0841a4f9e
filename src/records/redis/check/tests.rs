use super::*;

fn facts(text: &str) -> Facts {
    Facts::of(&Value::BulkString(text.as_bytes().to_vec())).unwrap()
}

const GOOD: &str = "# Server\r\nredis_version:7.0.15\r\nrole:master\r\nmaster_replid:ab12\r\n\
                    used_memory:900\r\nmaxmemory:1000\r\nmaxmemory_policy:noeviction\r\n\
                    evicted_keys:0\r\ncluster_enabled:0\r\n";

#[test]
fn a_primary_that_never_evicts_is_fit() {
    let facts = facts(GOOD);
    assert_eq!((&*facts.replication, facts.max_memory, facts.used_memory), ("ab12", 1000, 900));
    assert_eq!(facts.judge(Layout::Single), Ok(()));
    assert_eq!(facts.judge(Layout::Sentinels), Ok(()));
}

#[test]
fn what_could_forget_is_unfit_and_says_what_to_set() {
    for policy in ["allkeys-lru", "volatile-ttl", ""] {
        let cause = facts(&GOOD.replace("noeviction", policy)).judge(Layout::Single).unwrap_err();
        assert_eq!(cause.kind, Kind::Unfit);
        assert!(cause.detail.contains("set it to noeviction"), "{}", cause.detail);
    }
    let replica = facts(&GOOD.replace("role:master", "role:slave"));
    assert_eq!(replica.judge(Layout::Single).unwrap_err().kind, Kind::Unavailable);
}

#[test]
fn the_layout_has_to_be_the_servers() {
    assert_eq!(facts(GOOD).judge(Layout::Cluster).unwrap_err().kind, Kind::Unfit);
    let node = facts(&GOOD.replace("cluster_enabled:0", "cluster_enabled:1"));
    assert_eq!(node.judge(Layout::Cluster), Ok(()));
    assert_eq!(node.judge(Layout::Single).unwrap_err().kind, Kind::Unfit);
}
