use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

const PACE: Pace = Pace { limit: 10, latency: Duration::from_millis(10) };

struct Bench {
    settings: Settings,
    queue: WaitQueue,
    now: Instant,
    /// Whether those who enter were admitted before.
    admitted: bool,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "the fixed point that time is counted from")]
    fn new(discipline: Discipline) -> Self {
        let settings = Settings { discipline, ..Settings::default() };
        let now = Instant::now();
        Self { settings, queue: WaitQueue::new(now), now, admitted: false }
    }

    fn ask(&mut self, tier: usize, cohort: usize, left: Option<Duration>) -> Entered {
        let level = Level::new(tier, cohort);
        let deadline = left.map(|left| self.now + left);
        let arrival = Arrival { level, deadline, expected: PACE.latency, admitted: self.admitted };
        self.queue.enter(&self.settings, PACE, arrival, self.now)
    }

    fn enter(&mut self, tier: usize, cohort: usize) -> Ticket {
        match self.ask(tier, cohort, None) {
            Entered::Waiting { ticket, displaced: None, .. } => ticket,
            other => panic!("{other:?}"),
        }
    }

    /// How long the next one to enter may wait, without letting it in for good.
    fn wait(&mut self, tier: usize, cohort: usize) -> Duration {
        match self.ask(tier, cohort, None) {
            Entered::Waiting { ticket, until, .. } => {
                assert!(self.queue.leave(ticket));
                until - self.now
            }
            other => panic!("{other:?}"),
        }
    }

    fn next(&mut self) -> Option<Next> {
        self.queue.next(&self.settings, PACE, self.now)
    }

    /// Everyone in the order in which they are served.
    fn drain(&mut self) -> Vec<Ticket> {
        std::iter::from_fn(|| match self.next()? {
            Next::Serve(ticket) => Some(ticket),
            Next::Hopeless(_) => None,
        })
        .collect()
    }

    fn expire(&mut self, ticket: Ticket) -> bool {
        self.queue.expire(ticket, Leave::Waited, PACE, self.now)
    }

    /// Somebody always waits, and one of this level waits in vain.
    fn overload(&mut self, tier: usize, cohort: usize) {
        let one = self.enter(tier, 0);
        for _ in 0..200 {
            self.wait(tier, 0);
        }
        let other = self.enter(tier, cohort);
        assert!(self.expire(other) && self.queue.leave(one));
    }
}

#[test]
fn the_settings_are_those_of_the_contract() {
    let settings: Settings = serde_json::from_str("{}").expect("all have a default");
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.max, Length::Share(Factor::percent(200)));
    assert_eq!(settings.max_wait, Period::from_millis(100));
    assert_eq!(settings.discipline, Discipline::Priority);
    let text = r#"{ "max": 16, "max_wait": "50ms", "discipline": "lifo_adaptive" }"#;
    let written: Settings = serde_json::from_str(text).expect("valid settings");
    assert_eq!(written.max, Length::Count(16));
    assert_eq!(written.discipline, Discipline::LifoAdaptive);
    for length in ["16", "200%"] {
        let parsed: Length = length.parse().expect("a length");
        assert_eq!(parsed.to_string(), length);
        let json = serde_json::to_string(&parsed).expect("serialises");
        assert_eq!(serde_json::from_str::<Length>(&json).expect("reads back"), parsed);
    }
    for bad in [r#""many""#, "-1", "1.5", r#""-3""#, "5000000000"] {
        assert!(serde_json::from_str::<Length>(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_share_follows_the_limit_within_bounds() {
    let length = Length::Share(Factor::percent(200));
    let lengths = [1, 16, 17, 20, 1000, 1_000_000].map(|limit| length.of(limit));
    assert_eq!(lengths, [32, 32, 34, 40, 2000, MAX_LENGTH as usize]);
    assert_eq!(Length::Share(Factor::percent(0)).of(100), 0);
    assert_eq!(Length::Count(3).of(100), 3);
    assert_eq!(Length::Count(u32::MAX).of(100), MAX_LENGTH as usize);
}

#[test]
fn the_oldest_is_first_in_a_plain_queue_and_no_wait_is_cut() {
    let mut bench = Bench::new(Discipline::Fifo);
    bench.overload(1, 5);
    let tickets = [(3, 0), (0, 127), (1, 5)].map(|(tier, cohort)| bench.enter(tier, cohort));
    assert_eq!(bench.wait(1, 5), 100 * MS);
    assert_eq!(bench.drain(), tickets);
}

#[test]
fn the_newest_is_first_while_a_lifo_queue_is_overloaded() {
    let mut bench = Bench::new(Discipline::LifoAdaptive);
    let tickets = [0, 1, 2].map(|cohort| bench.enter(1, cohort));
    assert_eq!(bench.drain(), tickets, "in the order of arrival at first");
    bench.overload(1, 0);
    let mut tickets = [0, 1, 2].map(|cohort| bench.enter(1, cohort));
    assert_eq!(bench.wait(1, 0), 5 * MS);
    tickets.reverse();
    assert_eq!(bench.drain(), tickets);
    // A calm time later the oldest is first again.
    bench.now += 201 * MS;
    let tickets = [0, 1, 2].map(|cohort| bench.enter(1, cohort));
    assert_eq!(bench.drain(), tickets);
}

#[test]
fn tiers_come_in_turn_and_nobody_is_passed_within_one_for_its_cohort() {
    let mut bench = Bench::new(Discipline::Priority);
    let entered = [(3, 127), (1, 0), (1, 100), (0, 0), (2, 5), (0, 60)];
    let t = entered.map(|(tier, cohort)| bench.enter(tier, cohort));
    assert_eq!(bench.queue.waiting(0), 2);
    assert_eq!(bench.drain(), [t[3], t[5], t[1], t[2], t[4], t[0]]);
}

#[test]
fn the_highest_level_is_first_where_some_are_refused_and_waiting_raises_it() {
    let mut bench = Bench::new(Discipline::Priority);
    bench.overload(1, 90);
    let t = [10, 50, 30, 50].map(|cohort| bench.enter(1, cohort));
    assert_eq!(bench.drain(), [t[1], t[3], t[2], t[0]]);
    // 95 ms of waiting are nine levels and a half.
    let old = bench.enter(1, 20);
    bench.now += 95 * MS;
    let (nine, ten) = (bench.enter(1, 29), bench.enter(1, 30));
    // Nor do they ever lift it into the next tier.
    let above = bench.enter(0, 0);
    assert_eq!(bench.drain(), [above, ten, old, nine]);
}

#[test]
fn those_admitted_before_neither_need_nor_take_room() {
    for discipline in [Discipline::Priority, Discipline::Fifo, Discipline::LifoAdaptive] {
        let mut bench = Bench::new(discipline);
        bench.settings.max = Length::Count(1);
        bench.admitted = true;
        let back: Vec<_> = (0..3).map(|_| bench.enter(1, 9)).collect();
        assert_eq!((bench.queue.len(), bench.queue.newcomers()), (3, 0));
        bench.admitted = false;
        let new = bench.enter(1, 9);
        assert_eq!((bench.queue.len(), bench.queue.newcomers()), (4, 1));
        assert_eq!(bench.ask(1, 9, None), Entered::Full);
        assert!(bench.queue.leave(new) && bench.queue.leave(back[1]));
        assert_eq!((bench.queue.len(), bench.queue.newcomers()), (2, 0));
        bench.admitted = true;
        bench.ask(1, 9, Some(PACE.latency / 2));
        assert_eq!(bench.queue.len(), 2, "a deadline that cannot be met is theirs as well");
    }
}

#[test]
fn a_full_queue_gives_way_to_the_more_important() {
    let mut bench = Bench::new(Discipline::Priority);
    bench.settings.max = Length::Count(3);
    let (low, mid, high) = (bench.enter(3, 9), bench.enter(2, 9), bench.enter(0, 9));
    assert_eq!(bench.ask(3, 9, None), Entered::Full, "not to one that is no more important");
    let displaced = |entered| match entered {
        Entered::Waiting { displaced, .. } => displaced,
        other => panic!("{other:?}"),
    };
    assert_eq!(displaced(bench.ask(1, 9, None)), Some(low));
    assert_eq!(displaced(bench.ask(0, 9, None)), Some(mid));
    assert_eq!(bench.queue.len(), 3);
    assert!(!bench.queue.leave(low), "it is out already");
    assert_eq!(bench.drain().first(), Some(&high));
}

#[test]
fn a_plain_queue_gives_way_to_nobody() {
    let mut bench = Bench::new(Discipline::Fifo);
    bench.settings.max = Length::Count(1);
    bench.enter(3, 0);
    assert_eq!(bench.ask(0, 127, None), Entered::Full);
    bench.settings.max = Length::Count(0);
    bench.drain();
    assert_eq!(bench.ask(0, 127, None), Entered::Full, "a length of 0 lets nobody wait");
}

#[test]
fn waits_follow_the_latency_of_the_upstream() {
    let settings = Settings::default();
    let waits = [0, 1, 10, 100, 150, 300, 2000].map(|latency| {
        let pace = Pace { limit: 10, latency: latency * MS };
        short_wait(&settings, pace)
    });
    // Nobody knows; the least; half; half; half; the longest that is allowed, twice.
    assert_eq!(waits, [100 * MS, MS, 5 * MS, 50 * MS, 75 * MS, 100 * MS, 100 * MS]);
}

#[test]
fn waits_are_cut_from_the_refused_level_down_and_only_for_some_time() {
    let mut bench = Bench::new(Discipline::Priority);
    assert_eq!(bench.wait(1, 0), 100 * MS, "nobody was refused yet");
    bench.overload(1, 50);
    assert_eq!([0, 50, 82].map(|cohort| bench.wait(1, cohort)), [5 * MS; 3]);
    assert_eq!(bench.wait(1, 83), 100 * MS, "well above the refused one");
    assert_eq!(bench.wait(0, 0), 100 * MS, "and in the tier above");
    bench.now += 100 * MS;
    bench.overload(1, 20);
    bench.now += 90 * MS;
    assert!(bench.queue.is_overloaded(Level::new(1, 50), PACE, bench.now), "the one before");
    bench.now += 120 * MS;
    assert!(!bench.queue.is_overloaded(Level::new(1, 0), PACE, bench.now));
}

#[test]
fn a_queue_that_is_mostly_empty_is_not_overloaded_by_a_refusal() {
    let mut bench = Bench::new(Discipline::Priority);
    for _ in 0..100 {
        let ticket = bench.enter(1, 50);
        assert!(bench.expire(ticket));
    }
    assert_eq!(bench.wait(1, 50), 100 * MS);
}

#[test]
fn a_client_that_leaves_is_no_sign_of_overload() {
    let mut bench = Bench::new(Discipline::Priority);
    bench.enter(1, 0);
    for _ in 0..200 {
        bench.wait(1, 0);
    }
    assert!(!bench.queue.is_overloaded(Level::LOWEST, PACE, bench.now));
}

#[test]
fn a_deadline_that_cannot_be_met_is_told_at_once() {
    let mut bench = Bench::new(Discipline::Priority);
    assert_eq!(bench.ask(0, 0, Some(9 * MS)), Entered::Hopeless, "an answer takes 10 ms");
    let Entered::Waiting { until, why, ticket, .. } = bench.ask(1, 0, Some(50 * MS)) else {
        panic!("it has 40 ms to wait");
    };
    assert_eq!((until - bench.now, why), (40 * MS, Leave::Deadline));
    let Entered::Waiting { until, why, .. } = bench.ask(1, 0, Some(500 * MS)) else {
        panic!("it has time");
    };
    assert_eq!((until - bench.now, why), (100 * MS, Leave::Waited));
    // At its turn it is too late for the first, should its timer be late as well.
    bench.now += 41 * MS;
    assert_eq!(bench.next(), Some(Next::Hopeless(ticket)));
    assert!(matches!(bench.next(), Some(Next::Serve(_))));
    assert_eq!(bench.next(), None);
}

#[test]
fn a_clock_that_jumps_refuses_nobody_whose_deadline_allows_it() {
    let mut bench = Bench::new(Discipline::Priority);
    let tickets = [1, 2, 3].map(|cohort| bench.enter(1, cohort));
    bench.now += Duration::from_secs(3600);
    assert_eq!(bench.drain(), tickets);
}

#[test]
fn a_burst_that_fits_is_served_to_the_last() {
    let mut bench = Bench::new(Discipline::Priority);
    bench.settings.max = Length::Count(100);
    let tickets: Vec<Ticket> = (0..90).map(|n| bench.enter(1, n)).collect();
    for ticket in tickets {
        bench.now += MS;
        assert_eq!(bench.next(), Some(Next::Serve(ticket)));
    }
    assert!(!bench.queue.is_overloaded(Level::LOWEST, PACE, bench.now));
}

#[test]
fn a_ticket_is_good_for_one_stay() {
    let mut bench = Bench::new(Discipline::Priority);
    let ticket = bench.enter(1, 1);
    assert!(bench.queue.leave(ticket));
    assert!(!bench.queue.leave(ticket));
    let again = bench.enter(1, 1);
    assert_eq!(again.index(), ticket.index(), "the place is used again");
    assert!(!bench.expire(ticket), "the old ticket does not stand for it");
    assert_eq!(bench.queue.len(), 1);
    assert!(bench.queue.leave(again));
    assert!(bench.queue.is_empty());
}

fn any_discipline() -> impl Strategy<Value = Discipline> {
    prop_oneof![Just(Discipline::Fifo), Just(Discipline::LifoAdaptive), Just(Discipline::Priority),]
}

proptest! {
    /// Whatever happens: the length is bounded, each ticket leaves once, the counts add up, and
    /// nobody of a tier is served while somebody of a higher one waits.
    #[test]
    fn everyone_leaves_once_and_tiers_are_kept(
        discipline in any_discipline(),
        max in 0u32..12,
        events in prop::collection::vec((0u8..8, 0usize..4, 0usize..128, 0u64..60), 1..400),
    ) {
        let mut bench = Bench::new(discipline);
        bench.settings.max = Length::Count(max);
        let mut waiting: HashMap<Ticket, usize> = HashMap::new();
        for (event, tier, cohort, number) in events {
            match event {
                0..=3 => {
                    let left = (number % 3 == 0).then_some(2 * MS * number as u32);
                    match bench.ask(tier, cohort, left) {
                        Entered::Waiting { ticket, displaced, until, .. } => {
                            prop_assert!(until >= bench.now && until <= bench.now + 100 * MS);
                            if let Some(displaced) = displaced {
                                let lower = waiting.remove(&displaced);
                                let lower = lower.expect("it was waiting") >= tier;
                                prop_assert!(lower || discipline != Discipline::Priority);
                            }
                            prop_assert_eq!(waiting.insert(ticket, tier), None);
                        }
                        Entered::Full => prop_assert_eq!(waiting.len(), max as usize),
                        Entered::Hopeless => prop_assert!(left.is_some()),
                    }
                }
                4 | 5 => {
                    let next = bench.next();
                    prop_assert_eq!(next.is_none(), waiting.is_empty());
                    if let Some(Next::Serve(ticket) | Next::Hopeless(ticket)) = next {
                        let tier = waiting.remove(&ticket).expect("it was waiting");
                        let above = waiting.values().any(|other| *other < tier);
                        prop_assert!(!above || discipline != Discipline::Priority);
                    }
                }
                6 => {
                    let ticket = waiting.keys().min_by_key(|ticket| ticket.index()).copied();
                    if let Some(ticket) = ticket {
                        waiting.remove(&ticket);
                        let left = if number % 2 == 0 {
                            bench.queue.leave(ticket)
                        } else {
                            bench.expire(ticket)
                        };
                        prop_assert!(left && !bench.queue.leave(ticket));
                    }
                }
                _ => bench.now += MS * number as u32,
            }
            prop_assert_eq!(bench.queue.len(), waiting.len());
            prop_assert!(waiting.len() <= max as usize);
            if discipline == Discipline::Priority {
                for tier in 0..4 {
                    let count = waiting.values().filter(|of| **of == tier).count();
                    prop_assert_eq!(bench.queue.waiting(tier) as usize, count);
                }
            }
        }
    }

    /// Both ends of the order are those of a sorted list, whatever is taken out in between.
    #[test]
    fn the_order_has_both_ends_right(keys in prop::collection::vec(any::<u8>(), 1..60), picks in
        prop::collection::vec((any::<bool>(), any::<usize>()), 0..60)) {
        let mut order = Order::default();
        let mut list: Vec<(u8, u32)> = Vec::new();
        for (entry, key) in (0u32..).zip(keys) {
            order.insert(entry, (key, entry));
            list.push((key, entry));
        }
        for (any_entry, pick) in picks {
            list.sort_unstable();
            prop_assert_eq!(order.first(), list.last().map(|(_, entry)| *entry));
            prop_assert_eq!(order.last(), list.first().map(|(_, entry)| *entry));
            if list.is_empty() {
                break;
            }
            let at = if any_entry { pick % list.len() } else { list.len() - 1 };
            let (_, entry) = list.remove(at);
            prop_assert!(order.remove(entry) && !order.remove(entry));
            prop_assert_eq!(order.len(), list.len());
        }
    }
}
