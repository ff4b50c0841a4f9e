//! What clients and upstream have seen, second by second, and whether it is what was expected.

use std::time::Duration;

use super::scenario::{Expect, Scenario};

/// What was seen of the requests that came in one second, and of the attempts sent in it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Second {
    arrived: u32,
    good: u32,
    bad: u32,
    /// Answered by the proxy itself; part of `bad`.
    local: u32,
    left: u32,
    attempts: Vec<u32>,
    /// Times to an answer.
    times: Vec<Duration>,
}

/// A run, second by second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Tally {
    seconds: Vec<Second>,
    pub(crate) steps: u64,
}

/// The sums of a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) arrived: f64,
    pub(crate) good: f64,
    pub(crate) bad: f64,
    pub(crate) local: f64,
    pub(crate) attempts: Vec<f64>,
    times: Vec<Duration>,
}

impl Sums {
    /// The share of the requests that were waited for and answered well.
    pub(crate) fn success(&self) -> f64 {
        self.good / (self.good + self.bad)
    }

    pub(crate) fn amplification(&self) -> f64 {
        self.attempts.iter().sum::<f64>() / self.arrived
    }
}

impl Tally {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let second = Second { attempts: vec![0; scenario.endpoints], ..Second::default() };
        // What is under way at the end is answered later.
        let length = usize::try_from(scenario.length.as_secs()).expect("a length") + 120;
        Self { seconds: vec![second; length], steps: 0 }
    }

    fn at(&mut self, time: Duration) -> &mut Second {
        let last = self.seconds.len() - 1;
        &mut self.seconds[usize::try_from(time.as_secs()).unwrap_or(last).min(last)]
    }

    pub(crate) fn arrived(&mut self, born: Duration) {
        self.at(born).arrived += 1;
    }

    pub(crate) fn answered(&mut self, born: Duration, now: Duration, good: bool) {
        let second = self.at(born);
        *(if good { &mut second.good } else { &mut second.bad }) += 1;
        second.times.push(now - born);
    }

    pub(crate) fn refused(&mut self, born: Duration, local: bool) {
        let second = self.at(born);
        second.bad += 1;
        second.local += u32::from(local);
    }

    pub(crate) fn left(&mut self, born: Duration) {
        self.at(born).left += 1;
    }

    pub(crate) fn attempt(&mut self, now: Duration, endpoint: usize) {
        self.at(now).attempts[endpoint] += 1;
    }

    pub(crate) fn sums(&self, from: Duration, until: Duration) -> Sums {
        let place = |time: Duration| usize::try_from(time.as_secs()).expect("a time");
        let mut sums = Sums::default();
        for second in &self.seconds[place(from)..place(until)] {
            sums.arrived += f64::from(second.arrived);
            sums.good += f64::from(second.good);
            sums.bad += f64::from(second.bad);
            sums.local += f64::from(second.local);
            sums.attempts.resize(second.attempts.len(), 0.0);
            for (sum, attempts) in sums.attempts.iter_mut().zip(&second.attempts) {
                *sum += f64::from(*attempts);
            }
            sums.times.extend(&second.times);
        }
        sums.times.sort_unstable();
        sums
    }

    /// What is not as expected, a line each.
    pub(crate) fn judge(&self, expected: &[Expect]) -> Vec<String> {
        let mut wrong = Vec::new();
        for expect in expected {
            let sums = self.sums(*expect.from, *expect.until);
            let span = format!("{} to {}", expect.from, expect.until);
            let mut within = |what: &str, seen: f64, range: Option<[f64; 2]>| {
                if let Some([least, most]) = range
                    && !(least..=most).contains(&seen)
                {
                    wrong.push(format!("{span}: {what} is {seen:.3}, not {least} to {most}"));
                }
            };
            let seconds = (*expect.until - *expect.from).as_secs_f64();
            let attempts: f64 = sums.attempts.iter().sum();
            within("success", sums.success(), expect.success);
            within("amplification", sums.amplification(), expect.amplification);
            within("load", attempts / seconds, expect.load);
            within("local", sums.local / (sums.good + sums.bad), expect.local);
            if let Some(share) = &expect.share {
                let of = sums.attempts[share.endpoint] / attempts.max(1.0);
                within(&format!("share of endpoint {}", share.endpoint), of, Some(share.of));
            }
            let p95 = sums.times.get(sums.times.len() * 95 / 100);
            let p95 = p95.map_or(0.0, |time| time.as_secs_f64() * 1e3);
            within("p95_ms", p95, expect.p95_ms);
        }
        wrong
    }

    /// A table for whoever looks for the cause, one line for each `step` seconds.
    pub(crate) fn table(&self, length: Duration, step: u64) -> String {
        let mut lines = String::from("second  arrived  good  bad  local  attempts\n");
        let end = length.as_secs();
        for from in (0..end).step_by(usize::try_from(step).unwrap_or(1)) {
            let until = (from + step).min(end);
            let sums = self.sums(Duration::from_secs(from), Duration::from_secs(until));
            lines += &format!(
                "{from:>6} {:>8} {:>5} {:>4} {:>6}  {:?}\n",
                sums.arrived, sums.good, sums.bad, sums.local, sums.attempts
            );
        }
        lines
    }
}
