use proptest::prelude::*;

use super::*;
use crate::units::Ratio;

fn access() -> Access<'static> {
    Access {
        time: UNIX_EPOCH + Duration::from_millis(1_709_209_799_007),
        listener: "http",
        client: Some(SocketAddr::from(([127, 0, 0, 1], 50_000))),
        protocol: "HTTP/1.1",
        method: "GET",
        host: "user:secret@shop.test:8080",
        path: "/orders/1?token=secret#secret",
        request_id: None,
        route: Some("orders"),
        upstream: Some("stock"),
        endpoint: Some("[::1]:9000"),
        status: Some(503),
        grpc_status: None,
        reason: Some(Reason::CircuitOpen),
        duration: Duration::from_micros(12_034),
        attempts: 2,
        retry_suppressed: Some("budget"),
        would: &[Would::Retry, Would::RateLimit],
        fallback: None,
        coalesced: false,
        bytes_in: 10,
        bytes_out: 20,
    }
}

fn json(access: &Access<'_>) -> (String, serde_json::Value) {
    let mut line = String::new();
    access.render_json(&mut line);
    let value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
    (line, value)
}

fn text(access: &Access<'_>) -> String {
    let mut line = String::new();
    access.render_text(&mut line);
    line
}

#[test]
fn the_json_line() {
    assert_eq!(
        json(&access()).0,
        concat!(
            r#"{"time":"2024-02-29T12:29:59.007Z","listener":"http","client":"127.0.0.1:50000","#,
            r#""protocol":"HTTP/1.1","method":"GET","host":"shop.test:8080","path":"/orders/1","#,
            r#""route":"orders","upstream":"stock","endpoint":"[::1]:9000","status":503,"#,
            r#""reason":"circuit_open","duration_ms":12.034,"attempts":2,"#,
            r#""retry_suppressed":"budget","would":["rate_limit","retry"],"#,
            r#""bytes_in":10,"bytes_out":20}"#,
            "\n"
        )
    );
}

#[test]
fn the_text_line() {
    let mut access = access();
    access.request_id = Some("a b=\"c\"");
    access.grpc_status = Some(14);
    access.fallback = Some("upstream:spare");
    access.coalesced = true;
    assert_eq!(
        text(&access),
        concat!(
            "time=2024-02-29T12:29:59.007Z listener=http client=127.0.0.1:50000 ",
            "protocol=HTTP/1.1 method=GET host=shop.test:8080 path=/orders/1 ",
            r#"request_id="a b=\"c\"" route=orders upstream=stock endpoint=[::1]:9000 "#,
            "status=503 grpc_status=14 reason=circuit_open duration_ms=12.034 attempts=2 ",
            "retry_suppressed=budget would=rate_limit,retry fallback=upstream:spare ",
            "coalesced=true bytes_in=10 bytes_out=20\n"
        )
    );
}

#[test]
fn an_empty_line_has_only_what_is_always_known() {
    let access = Access {
        client: None,
        route: None,
        upstream: None,
        endpoint: None,
        status: None,
        reason: None,
        retry_suppressed: None,
        would: &[],
        fallback: None,
        coalesced: false,
        host: "",
        ..access()
    };
    let (_, value) = json(&access);
    let keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys.len(), 10, "{keys:?}");
    assert!(text(&access).contains(" host=\"\" "));
}

#[test]
fn a_line_cannot_be_forged() {
    let forged = "/\n{\"status\":200}\r\u{1b}[2K\u{85}\u{2028}\u{202e}\u{7f}\"\\";
    let access = Access { path: forged, ..access() };
    let (line, value) = json(&access);
    assert_eq!(value["path"], forged);
    assert_eq!(value["status"], 503);
    let escaped = r#"/\u000a{\"status\":200}\u000d\u001b[2K\u0085\u2028\u202e\u007f\"\\"#;
    assert!(line.contains(&format!("\"path\":\"{escaped}\"")), "{line}");
    assert!(text(&access).contains(&format!(" path=\"{escaped}\" ")));
}

#[test]
fn a_value_is_cut_at_a_whole_character() {
    let path = format!("/{}", "\u{e9}".repeat(PATH_MAX));
    let (_, value) = json(&Access { path: &path, ..access() });
    let written = value["path"].as_str().unwrap();
    assert!(written.ends_with("\u{e9}\u{2026}"), "{written}");
    assert_eq!(written.len(), PATH_MAX - 1 + '\u{2026}'.len_utf8());
    let exact = "x".repeat(PATH_MAX);
    assert_eq!(json(&Access { path: &exact, ..access() }).1["path"], exact);
}

#[test]
fn sampling() {
    let mut settings = Settings { sample: Ratio::percent(10), ..Settings::default() };
    assert!(should_log(&settings, false, 0.0));
    assert!(should_log(&settings, false, 0.099));
    assert!(!should_log(&settings, false, 0.1));
    assert!(should_log(&settings, true, 0.999));
    settings.always_on_error = false;
    assert!(!should_log(&settings, true, 0.999));
    settings.sample = Ratio::percent(100);
    assert!(should_log(&settings, false, 0.999_999));
    settings.sample = Ratio::percent(0);
    assert!(!should_log(&settings, false, 0.0));
    settings = Settings { to: AccessLogTo::None, ..Settings::default() };
    assert!(!should_log(&settings, true, 0.0));
}

/// The longest line: every value at its bound and every byte an escape of six.
#[test]
fn a_line_is_bounded() {
    let long = "\u{1}".repeat(100_000);
    let access = Access {
        listener: &long,
        protocol: &long,
        method: &long,
        host: &long,
        path: &long,
        request_id: Some(&long),
        route: Some(&long),
        upstream: Some(&long),
        endpoint: Some(&long),
        retry_suppressed: Some(&long),
        would: &[Would::Retry; 1000],
        ..access()
    };
    let bound = 6 * (PATH_MAX + HOST_MAX + 8 * WORD_MAX) + 500;
    assert!(json(&access).0.len() < bound);
    assert!(text(&access).len() < bound);
}

proptest! {
    #[test]
    fn anything_is_one_line_and_reads_back(
        path in "[^?#]{0,200}", host in "[^@]{0,40}", id in any::<String>(),
    ) {
        let id: String = id.chars().take(WORD_MAX / 4).collect();
        let access =
            Access { path: &path, host: &host, request_id: Some(&id), ..access() };
        let (line, value) = json(&access);
        prop_assert_eq!(value["path"].as_str(), Some(path.as_str()));
        prop_assert_eq!(value["host"].as_str(), Some(host.as_str()));
        prop_assert_eq!(value["request_id"].as_str(), Some(id.as_str()));
        for line in [line, text(&access)] {
            let (body, end) = line.split_at(line.len() - 1);
            prop_assert_eq!(end, "\n");
            prop_assert!(!body.chars().any(char::is_control), "{:?}", body);
        }
    }

    #[test]
    fn a_time_is_the_one_that_http_writes(seconds in 0_u64..253_402_300_800) {
        let at = UNIX_EPOCH + Duration::from_secs(seconds);
        let (line, _) = json(&Access { time: at, ..access() });
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun",
            "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
        let ours = line.strip_prefix("{\"time\":\"").unwrap();
        let month: usize = ours[5..7].parse().unwrap();
        let http = format!(
            "{} {} {} {} GMT", &ours[8..10], months[month - 1], &ours[..4], &ours[11..19]
        );
        let expected = httpdate::fmt_http_date(at);
        prop_assert!(expected.ends_with(&http), "{} {}", expected, ours);
    }
}

#[test]
fn each_written_line_is_the_one_that_the_form_renders() {
    let (say, got) = std::sync::mpsc::channel();
    let sink = Box::new(move |_, lines: &[u8]| {
        say.send(String::from_utf8(lines.to_vec()).unwrap()).unwrap();
        Ok(())
    });
    let log = AccessLog::with_sink(AccessLogTo::Stdout, Default::default(), sink).unwrap();
    log.write(Format::Json, &access());
    log.write(Format::Text, &access());
    assert!(log.close(Duration::from_secs(20)));
    drop(log);
    let written: String = got.iter().collect();
    assert_eq!(written, json(&access()).0 + &text(&access()));
}
