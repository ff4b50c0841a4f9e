use http::{HeaderMap, Method};
use proptest::prelude::*;

use super::*;
use crate::config::route::Match;

const PUBLIC: usize = 0;
const ADMIN: usize = 1;
const CHARGES: usize = 2;
const ISSUES: usize = 3;

fn matcher() -> Matcher {
    let routes: Vec<Match> = [
        "{ path_prefix: /public }",
        "{ path_prefix: /admin }",
        "{ path: /v1/charges }",
        "{ path_template: '/projects/{id}/issues' }",
    ]
    .iter()
    .map(|yaml| crate::config::tests::piece(yaml))
    .collect();
    let routes: Vec<&Match> = routes.iter().collect();
    Matcher::compile(&routes, &["in".to_owned()]).expect("routes")
}

fn target<'a>(path: &'a str, headers: &'a HeaderMap) -> Target<'a> {
    Target { listener: 0, host: "a", path, query: None, method: &Method::GET, headers }
}

/// The route that a request of this path goes by: `None` without one, an error when refused.
fn goes_by(matcher: &Matcher, path: &str) -> Option<Result<usize, &'static str>> {
    let headers = HeaderMap::new();
    let target = target(path, &headers);
    let found = matcher.find(&target)?;
    Some(one_reading(matcher, &target, found.index).map(|()| found.index))
}

#[test]
fn paths_that_everybody_takes_for_the_same_route_pass() {
    let matcher = matcher();
    for (path, route) in [
        ("/public", PUBLIC),
        ("/public/", PUBLIC),
        ("/public/a", PUBLIC),
        ("/public/a/b.html", PUBLIC),
        ("/public/.well-known/x", PUBLIC),
        ("/public/a%20b", PUBLIC),
        ("/public/%C3%A9t%C3%A9", PUBLIC),
        ("/public/%e9", PUBLIC),
        ("/public/100%25", PUBLIC),
        ("/public/50%", PUBLIC),
        ("/public/%zz", PUBLIC),
        ("/public/a;v=1", PUBLIC),
        ("/public/a;v=1/b", PUBLIC),
        ("/public/a%2Fb", PUBLIC),
        ("/public/group%252Fproject", PUBLIC),
        ("/public/@scope%2fname", PUBLIC),
        ("/public//a", PUBLIC),
        ("/public/a//b", PUBLIC),
        ("/public/a/./b", PUBLIC),
        ("/public/a/../b", PUBLIC),
        ("/public/a/%2e%2e/b", PUBLIC),
        ("/public/a\\b", PUBLIC),
        ("/public/...", PUBLIC),
        ("/public/..a", PUBLIC),
        ("/public/%3f", PUBLIC),
        ("/public/%23", PUBLIC),
        ("/public/..%3b/public/x", PUBLIC),
        ("/admin", ADMIN),
        ("/admin/users;x=1", ADMIN),
        ("/v1/charges", CHARGES),
        ("/projects/7/issues", ISSUES),
        ("/projects/a%20b/issues", ISSUES),
        ("/projects/a;x/issues", ISSUES),
    ] {
        assert_eq!(goes_by(&matcher, path), Some(Ok(route)), "{path}");
    }
}

#[test]
fn paths_that_somebody_takes_for_another_route_do_not() {
    let matcher = matcher();
    for path in [
        "/public/../admin",
        "/public/./../admin",
        "/public/a/../../admin",
        "/public/..//admin",
        "/public/..",
        "/public/../",
        "/public/../v1/charges",
        "/public/%2e%2e/admin",
        "/public/%2E%2E/admin",
        "/public/.%2e/admin",
        "/public/%2e./admin",
        "/public/..%2fadmin",
        "/public/..%2Fadmin",
        "/public/x%2f..%2f..%2fadmin",
        "/public/%2e%2e%2fadmin",
        "/public/%252e%252e/admin",
        "/public/%252e%252e%252fadmin",
        "/public/..%252fadmin",
        "/public/%25%32%65%25%32%65/admin",
        "/public/..\\admin",
        "/public/..%5cadmin",
        "/public/..%255cadmin",
        "/public/\\..\\..\\admin",
        "/public/..;/admin",
        "/public/..;x=1/admin",
        "/public/..%3b/admin",
        "/public/..%3Bx/admin",
        "/public/%2e%2e;x/admin",
        "/public/..;%2fadmin/../x/../../admin",
        "/public/%c0%ae%c0%ae/admin",
        "/public/..%c0%afadmin",
        "/public/%c0%ae%c0%ae%c0%afadmin",
        "/public/a%00",
        "/public/%00/../admin",
        "/public/a%2500",
        "/admin/../public",
        "/admin/..%2fpublic/x",
        "/admin/%2e%2e/v1/charges",
        "/projects/group%2Fproject/issues",
        "/projects/../issues",
        "/projects/..%2f..%2fadmin/issues",
        "/projects/;x/issues",
        "/projects/.;/issues",
        "/projects/%2e/issues",
    ] {
        let refused = goes_by(&matcher, path).expect("a route as it came");
        assert!(refused.is_err(), "{path} goes by {refused:?}");
    }
}

#[test]
fn what_has_no_route_as_it_came_gets_none() {
    let matcher = matcher();
    for path in
        ["//admin", "/%61dmin", "/./admin", "/;/admin", "/v1//charges", "/v1/charges/", "/v1"]
    {
        assert_eq!(goes_by(&matcher, path), None, "{path}");
    }
}

proptest! {
    #[test]
    fn an_accepted_path_goes_one_way_however_it_is_read(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "/", "/", "public", "admin", "v1", "charges", "..", ".", "%2f", "%2e", "%5c", "\\",
                ";", ";x=1", "%25", "2f", "2e", "%61", "a", "%",
            ]),
            0..10,
        ),
    ) {
        let matcher = matcher();
        let path = format!("/{}", pieces.concat());
        if let Some(Ok(route)) = goes_by(&matcher, &path) {
            for reading in readings(&path).expect("no zero byte") {
                // A reading is a path as well, and what is read of it leads nowhere else.
                let headers = HeaderMap::new();
                let found = matcher.find(&target(&reading, &headers));
                prop_assert_eq!(found.map(|found| found.index), Some(route), "{}", reading);
            }
        }
    }
}
