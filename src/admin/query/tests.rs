use super::*;

fn read(query: &str) -> Vec<(String, String)> {
    pairs(query).collect()
}

#[test]
fn names_and_values_are_decoded_after_they_are_split() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let wanted = [pair("url", "http://a/b?x=1&y=2"), pair("a b", "c"), pair("flag", "")];
    assert_eq!(read("url=http%3A%2f%2Fa/b?x=1%26y=2&&a+b=c&flag"), wanted);
}

#[test]
fn what_is_no_escape_stays_as_it_is() {
    assert_eq!(read("a=%4&b=%zz&c=%"), read("a=%254&b=%25zz&c=%25"));
    assert_eq!(read("a=%FF")[0].1, "\u{fffd}");
}
