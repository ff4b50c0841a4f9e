//! What a route changes on the way: path, host and fields.

use crate::support::client::{HOST, request};
use crate::support::proxy::one_route;
use crate::support::{client, reply, upstream};

/// What target and host the upstream is asked for when this route is asked for this target.
async fn rewritten(route: &str, target: &str) -> (String, String) {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, route).spawn().await;
    for client in [client(&proxy), client(&proxy).http2()] {
        assert_eq!(client.get(target).await.status(), 200, "{route} {target}");
    }
    let seen = upstream.requests();
    assert_eq!((&seen[0].uri, &seen[0].headers["host"]), (&seen[1].uri, &seen[1].headers["host"]));
    (seen[0].uri.to_string(), seen[0].header("host").expect("a host").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_rewrite_target_and_host_pass_as_they_came() {
    for target in ["/", "/a%2Fb/../c//d?x=%20&y=a+b", "/%E2%82%AC", "/?", "/a?b?c"] {
        assert_eq!(rewritten("", target).await, (target.to_owned(), HOST.to_owned()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_is_replaced_and_the_rest_and_the_query_stay() {
    let route = "match: { path_prefix: /v1 }\nrewrite: { path_prefix: /api/v2 }";
    for (from, to) in [("/v1/a?b=c", "/api/v2/a?b=c"), ("/v1", "/api/v2"), ("/v1/", "/api/v2/")] {
        assert_eq!(rewritten(route, from).await.0, to);
    }
    let route = "match: { path_prefix: /v1 }\nrewrite: { path_prefix: / }";
    for (from, to) in [("/v1/a", "/a"), ("/v1", "/"), ("/v1/", "/")] {
        assert_eq!(rewritten(route, from).await.0, to);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn captures_of_a_template_fill_the_new_path() {
    let route = "match: { path_template: \"/users/{user}/files/{file=**}\" }
rewrite: { path: \"/store/{file}/of/{user}\" }";
    let (target, _) = rewritten(route, "/users/u%201/files/a/b.txt?v=2").await;
    assert_eq!(target, "/store/a/b.txt/of/u%201?v=2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_path_cannot_be_climbed_out_of() {
    let upstream = upstream().spawn().await;
    let route = "match: { path_prefix: /v1 }\nrewrite: { path_prefix: /tenants/7 }";
    let proxy = one_route(&upstream, route).spawn().await;
    for target in ["/v1/../8", "/v1/%2e%2E/8", "/v1/a/.././../8"] {
        let answer = client(&proxy).get(target).await;
        assert_eq!((answer.status().as_u16(), answer.reason()), (400, Some("bad_request")));
    }
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_is_rewritten_and_the_original_is_told() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "rewrite: { host: \"in.test:8080\" }")
        .listening("forwarded: { x_forwarded: append }")
        .spawn()
        .await;
    client(&proxy).get("/").await;
    let seen = upstream.request();
    assert_eq!(seen.header("host"), Some("in.test:8080"));
    assert_eq!(seen.header("x-forwarded-host"), Some(HOST));
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_are_removed_set_and_added_both_ways() {
    let upstream = upstream()
        .always(|| reply(200).header("server", "s").header("x-a", "1").header("x-b", "1"))
        .spawn()
        .await;
    let ops = "{ remove: [server, x-gone], set: { x-a: new }, add: { x-b: more } }";
    let proxy = one_route(&upstream, &format!("headers: {{ request: {ops}, response: {ops} }}"))
        .spawn()
        .await;
    let ask = request("GET", "/").header("x-gone", "1").header("x-a", "1").header("x-b", "1");
    let answer = client(&proxy).send(ask).await;
    let seen = upstream.request();
    for headers in [&seen.headers, &answer.head.headers] {
        assert!(!headers.contains_key("x-gone") && !headers.contains_key("server"));
        assert_eq!(headers["x-a"], "new");
        assert_eq!(headers.get_all("x-b").iter().collect::<Vec<_>>(), ["1", "more"]);
    }
}
