use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn come_back_and_keep_their_order(
        at in any::<u64>(), other in any::<u64>(), state in 0..5_usize, bytes in any::<u32>()
    ) {
        let key = Key { class: Class::Whole, at, rid: Rid([7; 32]) };
        prop_assert_eq!(Key::from_bytes(&key.to_bytes()), Some(key));
        let later = Key::first(Class::Whole, other).to_bytes() > key.to_bytes();
        prop_assert_eq!(later, other > at);
        let body = Key { class: Class::Body, ..key }.to_bytes();
        prop_assert!(body < Key::first(Class::Whole, 0).to_bytes());
        let state = State::ALL[state];
        let row = Row { principal: Principal([3; 8]), state, epoch: at, bytes };
        prop_assert_eq!(Row::from_bytes(&row.to_bytes()), Some(row));
    }
}
