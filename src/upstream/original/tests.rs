use std::time::Duration;

use super::*;
use crate::clock;
use crate::config::upstream::{OriginalDestination, Upstream as Settings};
use crate::policy::outcome::{End, Outcome};
use crate::upstream::State;

fn upstream(max_endpoints: usize, metrics: &Metrics) -> Upstream {
    let settings = Settings {
        original_destination: Some(OriginalDestination { max_endpoints }),
        ..Settings::default()
    };
    let state = State::new(metrics.upstream("any"), &settings.concurrency);
    Upstream { name: "any".into(), settings, tls: None, state: Arc::new(state) }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 80))
}

fn known(upstream: &Upstream) -> Vec<SocketAddr> {
    let set = upstream.state.endpoints.load();
    let address = |endpoint: &Arc<Endpoint>| match endpoint.address {
        EndpointAddress::Tcp(address) => address,
        EndpointAddress::Unix(_) => panic!("only addresses are brought"),
    };
    set.endpoints.iter().map(address).collect()
}

#[test]
fn the_destination_not_used_for_longest_makes_room() {
    let metrics = Metrics::new(&[]);
    let upstream = upstream(3, &metrics);
    let reach = |last| upstream.reach(address(last), &metrics, clock::now());
    let first = reach(1).expect("room");
    assert_eq!(first.id, reach(1).expect("known").id);
    reach(2);
    reach(3);
    reach(1);
    assert_eq!(&*reach(4).expect("room").name, "192.0.2.4:80");
    assert_eq!(known(&upstream), [1, 3, 4].map(address));
    // What is at work stays, and with nothing else there is no room.
    let at_work = [1, 3, 4].map(|last| reach(last).expect("known").enter());
    assert!(reach(5).is_none());
    drop(at_work);
    assert!(reach(5).is_some());
    assert_eq!(known(&upstream), [3, 4, 5].map(address));
    let text = metrics.render();
    assert!(text.contains("endpoint=\"192.0.2.5:80\"") && !text.contains("192.0.2.2:80"));
}

#[test]
fn nothing_is_chosen_among_destinations() {
    let metrics = Metrics::new(&[]);
    let upstream = upstream(3, &metrics);
    let first = upstream.reach(address(1), &metrics, clock::now()).expect("room");
    upstream.reach(address(2), &metrics, clock::now()).expect("room");
    assert!(upstream.choose(&[], None, clock::now()).is_none());
    assert!(!upstream.has_other(&[first.id], clock::now()));
}

#[test]
fn an_ejected_destination_is_refused_where_that_is_wanted() {
    let metrics = Metrics::new(&[]);
    let mut upstream = upstream(3, &metrics);
    let now = clock::now();
    let broken = upstream.reach(address(1), &metrics, now).expect("room");
    upstream.reach(address(2), &metrics, now).expect("room");
    let reset = Outcome {
        end: End::Reset,
        unsent: false,
        latency: Duration::ZERO,
        hint: None,
        peer_shed: false,
    };
    for _ in 0..upstream.settings.ejection.consecutive_failures {
        upstream.learn(&broken, &reset, true, now);
    }
    assert!(broken.ejected_until(now).is_some());
    assert!(upstream.reach(address(1), &metrics, now).is_some());
    upstream.settings.ejection.when_all_ejected = WhenAllEjected::FailFast;
    assert!(upstream.reach(address(1), &metrics, now).is_none());
    assert!(upstream.reach(address(2), &metrics, now).is_some());
}
