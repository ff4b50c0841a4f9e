use super::*;

#[test]
fn a_key_is_32_bytes_in_either_alphabet_padded_or_not() {
    let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8 + 7).unwrap());
    let padded = "Bw8XHycvNz9HT1dfZ293f4ePl5+nr7e/x8/X3+fv9/8=";
    assert_eq!(key(padded), Some(bytes));
    assert_eq!(key(padded.trim_end_matches('=')), Some(bytes));
    assert_eq!(key(&padded.replace('+', "-").replace('/', "_")), Some(bytes));
    assert_eq!(key(&format!(" {padded}\n")), Some(bytes));
    let zeros = "A".repeat(43);
    assert_eq!(key(&zeros), Some([0; 32]));
    for bad in [
        "",
        "=",
        "AAAA",
        &"A".repeat(42),
        &"A".repeat(44),
        &format!("{zeros}=="),
        &format!("{}é", "A".repeat(41)),
        &format!("{}*", "A".repeat(42)),
        // Bits behind the last byte that are not 0.
        &format!("{}B", "A".repeat(42)),
    ] {
        assert_eq!(key(bad), None, "{bad}");
    }
}

#[test]
fn a_store_has_one_kind() {
    let memory = Some(Memory::default());
    let embedded = Some(Embedded { path: "/x".into(), max_bytes: one_gib(), paranoid: false });
    let one = Store { memory: memory.clone(), ..Store::default() };
    assert_eq!(one.kind(), Some("memory"));
    let two = Store { memory, embedded, ..Store::default() };
    assert_eq!(two.kind(), None);
    assert_eq!(Store::default().kind(), None);
}

#[test]
fn nothing_secret_is_in_its_debug_form() {
    let redis: Redis = serde_yaml::from_str("url: redis://me:hunter2@host").unwrap();
    let store = Store {
        redis: Some(redis),
        aead_key: Some("hunter3".to_owned()),
        fingerprint_key: Some("hunter4".to_owned()),
        ..Store::default()
    };
    let shown = format!("{store:?} {:?}", store.redis);
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(shown.contains("redis"), "{shown}");
}
