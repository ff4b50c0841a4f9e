use super::*;

static LEFT: HeaderName = HeaderName::from_static("x-left");
static MORE: HeaderName = HeaderName::from_static("x-more");

fn message<'a>(uri: &'a Uri, headers: &'a HeaderMap, own: &'a OwnFields) -> Message<'a, ()> {
    let (method, idle_max, informed) = (&Method::POST, None, None);
    Message { method, uri, headers, own, body: (), idle_max, informed, origin: Origin::Sender }
}

#[test]
fn own_fields_take_the_place_of_those_of_the_same_name() {
    let (uri, mut headers, mut own) =
        (Uri::from_static("/a"), HeaderMap::new(), OwnFields::default());
    headers.append("x-left", HeaderValue::from_static("9"));
    headers.append("x-left", HeaderValue::from_static("8"));
    own.set(&LEFT, HeaderValue::from_static("5"));
    own.set(&MORE, HeaderValue::from_static("1"));
    let request = message(&uri, &headers, &own).into_http2(false);
    assert_eq!(request.headers().get_all("x-left").iter().collect::<Vec<_>>(), ["5"]);
    assert_eq!(request.headers()["x-more"], "1");
    assert!(own.has(&LEFT) && !own.has(&header::HOST));
}

#[test]
fn http2_takes_the_host_into_the_target() {
    let (uri, mut headers, own) =
        (Uri::from_static("/a?b"), HeaderMap::new(), OwnFields::default());
    headers.insert(header::HOST, HeaderValue::from_static("x:80"));
    let request = message(&uri, &headers, &own).into_http2(false);
    assert_eq!(request.uri(), "http://x:80/a?b");
    assert_eq!((request.version(), request.headers().len()), (Version::HTTP_2, 0));
}
