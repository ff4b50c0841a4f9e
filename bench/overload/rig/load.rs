//! The load's side: requests at random times that no answer moves, as many independent callers send
//! them. A request that waits for its turn in this process waits at its own expense: latency counts
//! from the time at which it was meant to be sent.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use outrigger::clock;
use outrigger::shared::Shared;
use outrigger::units::{Period, Rate};
use serde_json::Value;
use tokio::sync::mpsc;

use super::plan::{At, Class};
use super::slots::wait_until;
use super::tally::{Ending, Tally};
use super::wire::{Answer, Failure, Pool};

/// Between the start of the process and the first request, so that all of it is ready.
const LEAD: Duration = Duration::from_millis(50);

/// What is sent.
#[derive(Args)]
pub(crate) struct Options {
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// Requests a second on average, at random distances.
    #[arg(long)]
    rate: Rate,
    /// Another rate from a time on, as `10s:3600/s`.
    #[arg(long, value_delimiter = ',')]
    step: Vec<At<Rate>>,
    /// How long to send.
    #[arg(long, default_value = "20s")]
    duration: Period,
    /// How long a caller waits for each try.
    #[arg(long, default_value = "200ms")]
    deadline: Period,
    /// Tells the deadline to the other side in `x-request-timeout-ms`.
    #[arg(long)]
    tell_deadline: bool,
    /// Sends again, at once, so many times after anything but a 2xx.
    #[arg(long, default_value_t = 0)]
    retries: u32,
    /// Requests of one kind: `NAME:SHARE[:KEY=VALUE,...]`, where `path` is the path, other keys are
    /// headers, and a value `user*100` stands for user0 to user99.
    #[arg(long)]
    class: Vec<Class>,
    /// Posts, each request under an `Idempotency-Key` of its own: this word and a number.
    #[arg(long, conflicts_with = "class")]
    keys: Option<String>,
    /// What is posted.
    #[arg(long, default_value = "amount=1")]
    body: String,
    /// The status of a good answer, instead of any 2xx.
    #[arg(long)]
    good: Option<u16>,
    /// Counts the time before this and after it apart.
    #[arg(long, value_delimiter = ',')]
    mark: Vec<Period>,
    /// Seed of times and classes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// One request to come.
struct Arrival {
    after: Duration,
    /// How many came before it.
    place: usize,
    class: usize,
    number: usize,
}

/// What all requests share.
struct Load {
    start: Instant,
    pool: Pool,
    /// The bytes of a request, by class and number.
    requests: Vec<Vec<Vec<u8>>>,
    /// The word of its key and its body, where each request has a key.
    keyed: Option<(String, String)>,
    good: Option<u16>,
    deadline: Duration,
    retries: u32,
    tally: Shared<Tally>,
}

impl Load {
    fn bytes(&self, arrival: &Arrival) -> Cow<'_, [u8]> {
        let Some((word, body)) = &self.keyed else {
            return Cow::Borrowed(&self.requests[arrival.class][arrival.number]);
        };
        let (place, length) = (arrival.place, body.len());
        let text = format!(
            "POST / HTTP/1.1\r\nhost: upstream\r\nidempotency-key: {word}-{place}\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        Cow::Owned(text.into_bytes())
    }
}

/// Sends it all, waits for the last answer or deadline, and says what came back.
pub(crate) fn run(mut options: Options) -> io::Result<Value> {
    if options.class.is_empty() {
        options.class.push(Class::all());
    }
    options.step.sort_by_key(|step| step.at);
    let told = match options.tell_deadline {
        true => format!("x-request-timeout-ms: {}\r\n", options.deadline.get().as_millis()),
        false => String::new(),
    };
    let bytes = |class: &Class| (0..class.numbers).map(|at| class.bytes(at, &told)).collect();
    let load = Arc::new(Load {
        start: clock::now() + LEAD,
        pool: Pool::new(SocketAddr::from(([127, 0, 0, 1], options.port))),
        requests: options.class.iter().map(bytes).collect(),
        keyed: options.keys.clone().map(|word| (word, options.body.clone())),
        good: options.good,
        deadline: options.deadline.get(),
        retries: options.retries,
        tally: Shared::default(),
    });
    let names: Vec<String> = options.class.iter().map(|class| class.name.clone()).collect();
    let marks = marks(&options);
    let (to, arrivals) = mpsc::unbounded_channel();
    let start = load.start;
    thread::Builder::new().name("pace".to_owned()).spawn(move || pace(&options, start, &to))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(send_all(Arc::clone(&load), arrivals));
    let tally = load.tally.lock();
    Ok(tally.report(&names, &marks))
}

/// The ends of the parts that are counted apart, in order.
fn marks(options: &Options) -> Vec<Duration> {
    let duration = options.duration.get();
    let mut marks = vec![Duration::ZERO, duration];
    marks.extend(options.step.iter().map(|step| step.at));
    marks.extend(options.mark.iter().map(|mark| mark.get()));
    marks.retain(|mark| *mark <= duration);
    marks.sort_unstable();
    marks.dedup();
    marks
}

/// A Poisson process whose rate changes in steps: a distance drawn across a step is cut off there
/// and drawn anew, which a process without memory allows.
fn pace(options: &Options, start: Instant, to: &mpsc::UnboundedSender<Arrival>) {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let shares: f64 = options.class.iter().map(|class| class.share).sum();
    let (mut after, mut rate) = (Duration::ZERO, options.rate.per_second());
    let mut steps = options.step.iter().peekable();
    let mut place = 0;
    loop {
        let next = after + Duration::from_secs_f64(-(1.0 - random.f64()).ln() / rate);
        if let Some(step) = steps.next_if(|step| step.at <= next) {
            (after, rate) = (step.at, step.what.per_second());
            continue;
        }
        after = next;
        if after >= options.duration.get() {
            return;
        }
        let mut drawn = random.f64() * shares;
        let among = options.class.iter().position(|class| {
            drawn -= class.share;
            drawn < 0.0
        });
        let class = among.unwrap_or(options.class.len() - 1);
        let number = random.usize(..options.class[class].numbers);
        wait_until(start + after);
        if to.send(Arrival { after, place, class, number }).is_err() {
            return;
        }
        place += 1;
    }
}

async fn send_all(load: Arc<Load>, mut arrivals: mpsc::UnboundedReceiver<Arrival>) {
    // Each request holds the sending half; the other half ends with the last of them.
    let (held, mut ended) = mpsc::channel::<()>(1);
    while let Some(arrival) = arrivals.recv().await {
        let (load, held) = (Arc::clone(&load), held.clone());
        tokio::spawn(async move {
            request(&load, arrival).await;
            drop(held);
        });
    }
    drop(held);
    while ended.recv().await.is_some() {}
}

/// One request with all its tries.
async fn request(load: &Load, arrival: Arrival) {
    let bytes = load.bytes(&arrival);
    let arrived = load.start + arrival.after;
    let (mut begun, mut tries) = (arrived, 0);
    let ending = loop {
        tries += 1;
        let limit = begun + load.deadline;
        let ended = clock::until(limit, load.pool.send(&bytes)).await;
        let ending = match ended {
            Ok(answer) if clock::now() <= limit => ending(answer, load.good),
            _ => Ending::Late,
        };
        if matches!(ending, Ending::Good) || tries > load.retries {
            break ending;
        }
        begun = clock::now();
    };
    let took = clock::now() - arrived;
    load.tally.lock().add(arrival.class, arrival.after, took, tries, ending);
}

fn ending(answer: Result<Answer, Failure>, good: Option<u16>) -> Ending {
    match answer {
        Ok(Answer { status, .. }) if good.is_some_and(|good| status == good) => Ending::Good,
        Ok(answer) if good.is_none() && (200..300).contains(&answer.status) => Ending::Good,
        Ok(Answer { status, reason: Some(reason) }) => {
            Ending::Refused(format!("{status} {reason}"))
        }
        Ok(Answer { status, reason: None }) => Ending::Refused(status.to_string()),
        Err(failure) => Ending::Failed(failure.name()),
    }
}
