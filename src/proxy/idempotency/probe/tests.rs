use super::*;

#[test]
fn a_key_is_one_segment_of_a_path_and_nothing_more() {
    assert_eq!(encoded(b"aZ09-._~"), "aZ09-._~");
    assert_eq!(encoded(b"../a?b#c d%\x7f"), "..%2Fa%3Fb%23c%20d%25%7F");
}
