//! What came back, counted by the second and the class of the request's arrival.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

/// How one request ended, after all its tries.
#[derive(Debug)]
pub(crate) enum Ending {
    /// A 2xx within the deadline.
    Good,
    /// No answer within the deadline.
    Late,
    /// Another status, with the proxy's reason where it gave one.
    Refused(String),
    /// No answer at all.
    Failed(&'static str),
}

struct Record {
    class: usize,
    arrived: Duration,
    /// From arrival to the end, in microseconds.
    took: u32,
    tries: u32,
    ending: Ending,
}

/// Every request of a run; a run of minutes at thousands a second fits into memory.
#[derive(Default)]
pub(crate) struct Tally(Vec<Record>);

impl Tally {
    /// Counts one request: its class, when it arrived after the start, how long it took in all, how
    /// often it was sent.
    pub(crate) fn add(
        &mut self,
        class: usize,
        arrived: Duration,
        took: Duration,
        tries: u32,
        ending: Ending,
    ) {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        self.0.push(Record { class, arrived, took, tries, ending });
    }

    /// The counts of each class between neighbours of `marks`, and of each second.
    pub(crate) fn report(&self, classes: &[String], marks: &[Duration]) -> Value {
        let parts: Vec<Value> = marks
            .windows(2)
            .map(|ends| {
                let within = |record: &&Record| (ends[0]..ends[1]).contains(&record.arrived);
                let mut part = json!({
                    "from": ends[0].as_secs_f64(),
                    "to": ends[1].as_secs_f64(),
                    "all": counts(self.0.iter().filter(within)),
                    "classes": {},
                });
                for (class, name) in classes.iter().enumerate() {
                    let own = |record: &&Record| within(record) && record.class == class;
                    part["classes"][name] = counts(self.0.iter().filter(own));
                }
                part
            })
            .collect();
        json!({ "parts": parts, "seconds": self.seconds(classes) })
    }

    fn seconds(&self, classes: &[String]) -> Value {
        let last = self.0.iter().map(|record| record.arrived.as_secs()).max();
        let length = last.map_or(0, |last| last as usize + 1);
        let mut report = json!({});
        for (class, name) in classes.iter().enumerate() {
            let [mut offered, mut sent, mut good] = [(); 3].map(|()| vec![0_u64; length]);
            for record in self.0.iter().filter(|record| record.class == class) {
                let second = record.arrived.as_secs() as usize;
                offered[second] += 1;
                sent[second] += u64::from(record.tries);
                good[second] += u64::from(matches!(record.ending, Ending::Good));
            }
            report[name] = json!({ "offered": offered, "sent": sent, "good": good });
        }
        report
    }
}

fn counts<'a>(records: impl Iterator<Item = &'a Record>) -> Value {
    let (mut offered, mut sent, mut late) = (0_u64, 0_u64, 0_u64);
    let (mut refused, mut failed) = (BTreeMap::new(), BTreeMap::new());
    let mut good = Vec::new();
    for record in records {
        offered += 1;
        sent += u64::from(record.tries);
        match &record.ending {
            Ending::Good => good.push(record.took),
            Ending::Late => late += 1,
            Ending::Refused(status) => *refused.entry(status.as_str()).or_insert(0_u64) += 1,
            Ending::Failed(why) => *failed.entry(*why).or_insert(0_u64) += 1,
        }
    }
    good.sort_unstable();
    json!({
        "offered": offered,
        "sent": sent,
        "good": good.len(),
        "late": late,
        "refused": refused,
        "failed": failed,
        "p50_ms": quantile(&good, 0.5),
        "p90_ms": quantile(&good, 0.9),
        "p99_ms": quantile(&good, 0.99),
        "p999_ms": quantile(&good, 0.999),
    })
}

/// The smallest of the sorted times that at least this share of them does not pass, in
/// milliseconds; nothing without times.
pub(crate) fn quantile(sorted: &[u32], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).map(|took| f64::from(*took) / 1000.0)
}
