use proptest::prelude::*;

use super::*;

#[test]
fn every_form_is_read_and_written() {
    let name = |name: &str, port| Target::Name(name.to_owned(), port);
    for (text, target, printed) in [
        ("10.0.0.1:80", Target::Ip("10.0.0.1:80".parse().unwrap()), "10.0.0.1:80"),
        ("[::1]:8080", Target::Ip("[::1]:8080".parse().unwrap()), "[::1]:8080"),
        ("localhost:1", name("localhost", 1), "localhost:1"),
        ("Pay.Example.com:65535", name("pay.example.com", 65535), "pay.example.com:65535"),
        ("pay.example.com.:443", name("pay.example.com.", 443), "pay.example.com.:443"),
        ("my_app-1:80", name("my_app-1", 80), "my_app-1:80"),
        ("unix:/run/app.sock", Target::Unix("/run/app.sock".into()), "unix:/run/app.sock"),
        ("unix:/run/a:80", Target::Unix("/run/a:80".into()), "unix:/run/a:80"),
    ] {
        assert_eq!(text.parse::<Target>().as_ref(), Ok(&target), "{text}");
        assert_eq!(target.to_string(), printed);
    }
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_text() {
    for bad in [
        "",
        "host",
        "host:",
        ":80",
        ".:80",
        "host:0",
        "host:65536",
        "host:+80",
        "host: 80",
        "::1:80",
        "[::1]",
        "[::1:80",
        "[10.0.0.1]:80",
        "10.0.0.256:80",
        "10.0.0:80",
        "a..b:80",
        "-a:80",
        "a b:80",
        "http://host:80",
        "unix:",
        "unix:run/app.sock",
        "unix:/run/",
        "unix:/run/a\0b",
    ] {
        let error = bad.parse::<Target>().expect_err(bad);
        assert!(error.contains(&format!("`{bad}`")), "{error}");
    }
    assert!(format!("{}:80", "a".repeat(64)).parse::<Target>().is_err());
    assert!(format!("{}:80", "a.".repeat(127)).parse::<Target>().is_ok());
    assert!(format!("{}:80", "a.".repeat(128)).parse::<Target>().is_err());
    assert!(format!("unix:/{}", "a".repeat(106)).parse::<Target>().is_ok());
    assert!(format!("unix:/{}", "a".repeat(107)).parse::<Target>().is_err());
}

#[test]
fn endpoint_addresses_are_written_as_in_the_configuration() {
    let tcp = EndpointAddress::Tcp("[::1]:80".parse().unwrap());
    assert_eq!(tcp.to_string(), "[::1]:80");
    assert_eq!(EndpointAddress::Unix("/run/app.sock".into()).to_string(), "unix:/run/app.sock");
}

proptest! {
    #[test]
    fn what_is_read_is_written_the_same_way_and_read_again(text in "\\PC{0,40}(:[0-9]{1,5})?") {
        if let Ok(target) = text.parse::<Target>() {
            prop_assert_eq!(target.to_string().parse::<Target>(), Ok(target));
        }
    }
}
