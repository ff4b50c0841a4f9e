//! What statuses mean, and what becomes one.

use super::*;

#[test]
fn the_statuses_that_blame_the_server_are_the_protocol_s() {
    let blamed: Vec<u16> = (0..20).filter(|code| is_failure(*code)).collect();
    assert_eq!(blamed, [2, 4, 8, 13, 14, 15]);
    let too_much: Vec<u16> = (0..20).filter(|code| is_overload(*code)).collect();
    assert_eq!(too_much, [4, 8, 14]);
}

#[test]
fn statuses_of_http_become_those_of_the_protocol_s_table() {
    let table = [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14)];
    for (status, code) in table.into_iter().chain([(504, 14), (200, 2), (500, 2), (302, 2)]) {
        assert_eq!(of_http(status), code, "{status}");
    }
}

#[test]
fn resets_become_those_of_the_protocol_s_table() {
    let internal = [0, 1, 2, 3, 6, 9, 10].map(|code| (code, 13));
    for (reset, code) in internal.into_iter().chain([(7, 14), (8, 1), (11, 8), (12, 7), (5, 2)]) {
        assert_eq!(of_reset(reset), code, "{reset}");
    }
}

#[test]
fn a_cut_is_told_in_trailers() {
    let trailers = cut(14, Reason::UpstreamCut);
    assert_eq!(trailers["grpc-status"], "14");
    assert_eq!(trailers["grpc-message"], Reason::UpstreamCut.title());
}
