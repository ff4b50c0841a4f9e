use proptest::prelude::*;

use super::*;
use crate::policy::idempotency::record::{Fingerprint, NEVER, Nonce as Claimed, Owner, Principal};

fn record(answer: Option<Stored>) -> Record {
    Record {
        state: State::Completed,
        claimant: Claimant {
            fingerprint: Fingerprint { version: 1, digest: [3; 32] },
            owner: Owner { instance: [4; 16], epoch: 7 },
            nonce: Claimed([5; 16]),
            fence: Fence(1 << 50),
            principal: Principal([6; 8]),
        },
        lease_until: 12,
        first_seen: 10,
        completed: 11,
        attempts: 2,
        observed_status: Some(502),
        doubt: Some(Doubt::AnswerCut),
        body_until: 99,
        keep_until: NEVER,
        contested: true,
        answer,
    }
}

fn answer(body: Option<&[u8]>) -> Stored {
    Stored {
        status: 201,
        indeterminate: false,
        headers: vec![((*b"location").into(), (*b"/charges/1").into())],
        body: body.map(Into::into),
        trailers: vec![((*b"grpc-status").into(), (*b"0").into())],
    }
}

const KEY: [u8; 32] = [9; 32];
const RID: Rid = Rid([1; 32]);

#[test]
fn comes_back_as_it_was() {
    for seal in [Seal::default(), Seal::new(Some(&KEY))] {
        for stored in [None, Some(answer(None)), Some(answer(Some(b""))), Some(answer(Some(b"x")))]
        {
            let record = record(stored);
            let bytes = encode(&record, &RID, &seal).unwrap();
            assert_eq!(decode(&bytes, &RID, &seal), Entry::Record(Box::new(record)));
        }
    }
}

#[test]
fn fits_no_other_name_key_or_fence() {
    let seal = Seal::new(Some(&KEY));
    let record = record(Some(answer(Some(b"secret"))));
    let bytes = encode(&record, &RID, &seal).unwrap();
    assert_eq!(decode(&bytes, &Rid([2; 32]), &seal), Entry::Unreadable);
    assert_eq!(decode(&bytes, &RID, &Seal::new(Some(&[8; 32]))), Entry::Unreadable);
    assert_eq!(decode(&bytes, &RID, &Seal::default()), Entry::Unreadable);
    let sealed = seal.encode(&answer(Some(b"secret")), &RID, Fence(1)).unwrap();
    assert_eq!(seal.decode(&sealed, &RID, Fence(2)), None);
    assert!(!bytes.windows(6).any(|part| part == b"secret"));
}

#[test]
fn equal_records_differ_in_their_bytes() {
    let bytes = || encode(&record(None), &RID, &Seal::default()).unwrap();
    assert_ne!(bytes(), bytes());
}

#[test]
fn parts_cannot_be_shifted() {
    assert_ne!(digest_of(1, &[b"ab", b"c"]), digest_of(1, &[b"a", b"bc"]));
    assert_ne!(digest_of(1, &[b"a"]), digest_of(2, &[b"a"]));
    assert_ne!(digest_of(1, &[b"a"]), digest_of(1, &[b"a", b""]));
}

proptest! {
    #[test]
    fn a_flipped_bit_is_never_taken_for_a_record(at in 0_usize..10_000, bit in 0_u8..8) {
        let record = record(Some(answer(Some(b"body"))));
        let mut bytes = encode(&record, &RID, &Seal::default()).unwrap();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(decode(&bytes, &RID, &Seal::default()), Entry::Unreadable);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(decode(&bytes, &RID, &Seal::default()), Entry::Unreadable);
    }

    #[test]
    fn cut_off_bytes_are_unreadable(len in 0_usize..150) {
        let bytes = encode(&record(Some(answer(Some(b"body")))), &RID, &Seal::default()).unwrap();
        let cut = &bytes[..len.min(bytes.len() - 1)];
        prop_assert_eq!(decode(cut, &RID, &Seal::default()), Entry::Unreadable);
    }
}
