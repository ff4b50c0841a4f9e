use super::*;

#[test]
fn the_longer_of_two_values_is_masked_whole() {
    let mut secrets = Secrets::default();
    secrets.add_value("secret");
    secrets.add_value("secret-and-more");
    secrets.add_value("short");
    assert_eq!(secrets.mask("a secret-and-more b secret c short"), "a *** b *** c short");
}

#[test]
fn names_of_identity_are_known_in_any_case() {
    for name in ["Authorization", "proxy-authorization", "COOKIE", "x-api-key", "X-Auth-Token"] {
        assert!(carries_identity(name), "{name}");
    }
    for name in ["accept", "x-user", "content-type"] {
        assert!(!carries_identity(name), "{name}");
    }
}
