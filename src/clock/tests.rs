use std::pin::pin;

use super::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(50);

#[tokio::test(start_paused = true)]
async fn what_is_done_in_time_is_not_late_whatever_was_set_before() {
    let timers = Timers::default();
    for period in [SHORT, LONG, SHORT] {
        let start = now();
        let waiting = pin!(sleep(period));
        assert_eq!(timers.until(start + period * 2, waiting).await, Ok(()));
        assert!(now() - start < period * 2);
        assert_eq!(timers.0.borrow().len(), 1, "the timer is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_done_in_time_is_late_and_no_later() {
    let timers = Timers::default();
    // Set back, forward, and again after it rang.
    for period in [LONG, SHORT, SHORT, LONG, LONG] {
        let start = now();
        let never = pin!(std::future::pending::<()>());
        assert_eq!(timers.until(start + period, never).await, Err(Late));
        let took = now() - start;
        assert!(took >= period && took < period + SHORT / 10, "{took:?} for {period:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_in_the_middle_keeps_its_timer() {
    let timers = Timers::default();
    let (first, second) = (pin!(sleep(LONG)), pin!(sleep(LONG)));
    let both =
        async { tokio::join!(timers.until(now() + LONG, first), timers.until(now(), second)) };
    assert!(until(now() + SHORT, both).await.is_err());
    assert_eq!(timers.0.borrow().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_done_at_once_sets_no_timer() {
    let timers = Timers::default();
    assert_eq!(timers.until(now(), pin!(std::future::ready(1))).await, Ok(1));
    assert!(timers.0.borrow().is_empty());
}
