use super::*;
use crate::clock;

#[test]
fn questions_come_fast_at_first_and_slower_then() {
    let (polls, rid, start) = (Polls::default(), Rid([1; 32]), clock::now());
    for (turn, most) in [50_u64, 100, 200, 400, 500, 500].into_iter().enumerate() {
        let now = start + Duration::from_millis(100 * u64::try_from(turn).unwrap());
        let wait = polls.next(rid, now);
        let most = Duration::from_millis(most);
        assert!(wait >= most / 2 && wait <= most, "{turn}: {wait:?}");
    }
    assert!(polls.next(Rid([2; 32]), start) <= WAIT.0);
    assert!(polls.next(rid, start + Duration::from_secs(60)) <= WAIT.0);
}

#[test]
fn the_table_is_bounded() {
    let (polls, now) = (Polls::default(), clock::now());
    for number in 0..RECORDS_MAX + 10 {
        let mut rid = [0; 32];
        rid[..8].copy_from_slice(&number.to_be_bytes());
        polls.next(Rid(rid), now);
    }
    assert_eq!(polls.0.lock().unwrap().len(), RECORDS_MAX);
    polls.next(Rid([9; 32]), now + PAUSE * 2);
    assert_eq!(polls.0.lock().unwrap().len(), 1);
}
