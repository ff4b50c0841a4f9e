use super::*;
use crate::clock;
use crate::policy::health_check;
use crate::policy::outcome::End;
use crate::policy::retry::Suppressed;
use crate::telemetry::metrics::Metrics;

fn endpoint() -> Endpoint {
    let address = EndpointAddress::Tcp("127.0.0.1:80".parse().expect("an address"));
    let metrics = Metrics::new(Suppressed::NAMES).endpoint("u", "127.0.0.1:80");
    Endpoint::new(Spec { address, weight: 1, zone: None, host: "127.0.0.1".into() }, metrics, None)
}

fn ended(status: u16) -> Outcome {
    Outcome {
        end: End::Answer { status, grpc: None },
        unsent: false,
        latency: Duration::from_millis(20),
        hint: None,
        peer_shed: false,
    }
}

#[test]
fn an_endpoint_returns_from_ejection_without_the_penalty_of_its_failures() {
    let (endpoint, settings, t0) = (endpoint(), Settings::default(), clock::now());
    endpoint.learn(&settings, &ended(503), true, t0);
    let penalty = settings.load_balancing.failure_penalty.as_secs_f64() * 1e9;
    assert_eq!(endpoint.cost(t0), Some(penalty));

    let out = endpoint.eject(&settings, t0, 0.5);
    assert!(!endpoint.available(t0 + out / 2));
    assert!(endpoint.cost(t0 + out / 2).is_some());

    let back = t0 + out;
    assert!(endpoint.available(back));
    assert_eq!(endpoint.cost(back), None, "it is measured anew");
    assert!(endpoint.ramp(&settings, back) < 1.0, "and starts slowly");
}

#[test]
fn an_endpoint_that_is_healthy_again_is_measured_anew() {
    let (endpoint, t0) = (endpoint(), clock::now());
    let check = health_check::Settings::default();
    let settings = Settings { health_check: Some(check), ..Settings::default() };
    endpoint.learn(&settings, &ended(503), true, t0);
    let turn = |good| (0..100).find_map(|_| endpoint.checked(&settings, good, t0));
    assert_eq!(turn(false), Some(false));
    assert_eq!(turn(true), Some(true));
    assert_eq!(endpoint.cost(t0), None);
}
