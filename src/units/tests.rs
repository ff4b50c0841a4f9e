use super::*;

#[test]
fn periods_are_read_and_written_in_the_largest_whole_unit() {
    for (text, ms, printed) in [
        ("250ms", 250, "250ms"),
        ("2s", 2000, "2s"),
        ("1.5s", 1500, "1500ms"),
        ("90s", 90_000, "90s"),
        ("5m", 300_000, "5m"),
        ("24h", 86_400_000, "24h"),
        ("0", 0, "0s"),
    ] {
        let period: Period = text.parse().unwrap();
        assert_eq!(period.as_millis(), ms, "{text}");
        assert_eq!(period.to_string(), printed);
        assert_eq!(period.to_string().parse::<Period>().unwrap(), period);
    }
    for bad in ["", "5", "-1s", "1d", "ms", "1e3s", "9999999h", "1..2s"] {
        assert!(bad.parse::<Period>().is_err(), "{bad}");
    }
}

#[test]
fn shares_need_their_sign_and_their_range() {
    assert_eq!("20%".parse::<Ratio>().unwrap().get(), 0.2);
    assert_eq!("0.5%".parse::<Ratio>().unwrap().get(), 0.005);
    assert_eq!("7%".parse::<Ratio>().unwrap().to_string(), "7%");
    assert_eq!("125%".parse::<Factor>().unwrap().get(), 1.25);
    for bad in ["20", "120%", "-1%", "NaN%", "%", "1e1%"] {
        assert!(bad.parse::<Ratio>().is_err(), "{bad}");
    }
    assert!("1001%".parse::<Factor>().is_err());
}

#[test]
fn sizes_and_rates_round_trip() {
    for text in ["512B", "64KiB", "10MiB", "1GiB", "1025B"] {
        assert_eq!(text.parse::<ByteSize>().unwrap().to_string(), text);
    }
    assert!("64KB".parse::<ByteSize>().is_err());
    assert!("99999999999GiB".parse::<ByteSize>().is_err());
    for text in ["100/s", "6000/min", "10/h"] {
        assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
    }
    assert_eq!("6000/min".parse::<Rate>().unwrap().per_second(), 100.0);
    assert!("0/s".parse::<Rate>().is_err());
    assert!("5/day".parse::<Rate>().is_err());
}
