use proptest::collection::vec;
use proptest::prelude::*;

use super::super::Miss;
use super::random::{a_request, a_route};
use super::*;

fn missed(route_of: &str, line: &str) -> Option<Miss> {
    let request = Request::new(line);
    table(&[route_of]).miss(0, &request.target())
}

#[test]
fn the_first_condition_that_fails_is_named() {
    let all = "{ host: a.b, path_prefix: /x, methods: [GET], headers: { x-a: '1' }, \
               query: { q: '2' }, listeners: [out] }";
    assert_eq!(missed(all, "POST c.d/y"), Some(Miss::Host));
    assert_eq!(missed(all, "POST a.b/xy"), Some(Miss::Path));
    assert_eq!(missed(all, "POST a.b/x/y"), Some(Miss::Method));
    assert_eq!(missed(all, "GET a.b/x/y"), Some(Miss::Header("x-a".to_owned())));
    let request = Request::new("GET a.b/x/y").header("x-a", "1");
    assert_eq!(table(&[all]).miss(0, &request.target()), Some(Miss::Query("q".to_owned())));
    let request = Request::new("GET a.b/x/y?q=2").header("x-a", "1");
    assert_eq!(table(&[all]).miss(0, &request.target()), Some(Miss::Listener));
    assert_eq!(table(&[all]).miss(1, &request.target()), None, "there is no such route");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// A route misses by nothing exactly when the plain rules say that it matches.
    #[test]
    fn a_route_that_matches_has_no_miss(
        routes in vec(a_route(), 1..25),
        requests in vec(a_request(), 8),
    ) {
        let listeners = names(&["in", "out"]);
        let matcher = compile(&routes);
        for request in &requests {
            for (index, route) in routes.iter().enumerate() {
                let miss = matcher.miss(index, &request.target());
                let matches = reference::matches(route, &listeners, request);
                prop_assert_eq!(matches, miss.is_none(), "{:?} {:?} {:?}", route, request, miss);
            }
        }
    }
}
