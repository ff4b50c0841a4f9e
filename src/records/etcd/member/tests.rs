use super::*;

#[test]
fn an_endpoint_is_a_url_with_a_login_perhaps() {
    let plain = Address::parse("http://10.0.0.1:2380").unwrap();
    assert_eq!((&*plain.host, plain.port, plain.tls), ("10.0.0.1", 2380, false));
    assert!(plain.login.is_none());
    let secure = Address::parse("https://outrigger:p%40ss%3Aword@etcd.example/").unwrap();
    assert_eq!((&*secure.host, secure.port, secure.tls), ("etcd.example", 2379, true));
    let Login { name, password } = secure.login.unwrap();
    assert_eq!((&*name, &*password), ("outrigger", "p@ss:word"));
    // The password goes nowhere but to the login.
    assert_eq!(secure.origin, "https://etcd.example:2379/");
    let six = Address::parse("http://[::1]:1").unwrap();
    assert_eq!((&*six.host, six.port), ("::1", 1));
}

#[test]
fn what_is_no_endpoint_is_told_without_its_password() {
    for bad in ["etcd:2379", "ftp://u:secret@etcd", "", "//u:secret@x", "http://"] {
        let Err(problem) = Address::parse(bad) else { panic!("{bad}") };
        assert!(!problem.contains("secret"), "{problem}");
    }
}
