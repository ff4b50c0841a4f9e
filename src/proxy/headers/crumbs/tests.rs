use super::super::tests::map;
use super::*;

#[test]
fn crumbs_become_one_field_in_their_order() {
    let mut headers = map(&[("cookie", "a=1"), ("accept", "*/*"), ("cookie", "b=2; c=3")]);
    headers.append(COOKIE, HeaderValue::from_bytes(b"d=\xff").unwrap());
    join(&mut headers);
    let all: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    assert_eq!(all, [b"a=1; b=2; c=3; d=\xff"]);
    assert_eq!(headers.len(), 2);
}

#[test]
fn one_field_stays_as_it_is() {
    let mut headers = map(&[("cookie", "a=1; b=2")]);
    join(&mut headers);
    assert_eq!(headers, map(&[("cookie", "a=1; b=2")]));
}
