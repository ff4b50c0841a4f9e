//! Records of requests with a key: those that somebody has to look at, and what can be done.
//!
//! All of it needs the token, looking too: records tell of clients' operations. Each change, and
//! each refused one, leaves a line in the log under the target `audit`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use http::request::Parts;
use hyper::body::Bytes;

use super::answer::{self, Answer};
use super::{Client, authority, query};
use crate::clock;
use crate::policy::idempotency::machine::{Resolution, Settled};
use crate::policy::idempotency::record::{Retention, State};
use crate::policy::idempotency::settings::Settings;
use crate::proxy::{Live, Proxy};
use crate::records::Fault;
use crate::records::ledger::Ledger;
use crate::records::operator::{self, Named, Word};

mod view;

use view::{ChangeView, ListingView, RecordView};

/// How long finding a record may take: all of them may have to be gone through.
const FIND_TIME: Duration = Duration::from_secs(15);
/// How long a change may take until it is said that nobody knows.
const CHANGE_TIME: Duration = Duration::from_secs(5);
/// The records of one answer, unless another number is asked for.
const LIMIT: usize = 100;
/// How long an upstream may be at work on a request that it has read, where no probe says so.
const SETTLE_DELAY: Duration = Duration::from_secs(60);

/// The paths, for the index.
pub(super) const INDEX: [(&str, &str); 4] = [
    (
        "GET /records?store=&state=&after=&limit=",
        "records of keys; unknown ones by default (token)",
    ),
    ("GET /records/{ref}?store=", "one of them (token)"),
    ("POST /records/{ref}/resolve", "say what became of an unknown one (token)"),
    ("POST /records/{ref}/purge", "forget one, whatever it says (token)"),
];

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call<'a> {
    List,
    Show(&'a str),
    Resolve(&'a str),
    Purge(&'a str),
}

impl<'a> Call<'a> {
    fn of(path: &'a str) -> Option<Self> {
        let rest = path.strip_prefix("/records")?;
        if rest.is_empty() {
            return Some(Self::List);
        }
        let (called, verb) = match rest.strip_prefix('/')?.split_once('/') {
            Some((called, verb)) => (called, Some(verb)),
            None => (rest.strip_prefix('/')?, None),
        };
        match verb {
            _ if called.is_empty() => None,
            None => Some(Self::Show(called)),
            Some("resolve") => Some(Self::Resolve(called)),
            Some("purge") => Some(Self::Purge(called)),
            Some(_) => None,
        }
    }

    const fn changes(self) -> bool {
        matches!(self, Self::Resolve(_) | Self::Purge(_))
    }
}

/// Whether a path is one of these, existing or not.
pub(super) fn is_for(path: &str) -> bool {
    path.strip_prefix("/records").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What is asked for in the query.
#[derive(Default)]
struct Asked {
    store: Option<String>,
    states: Option<Vec<State>>,
    after: Option<String>,
    limit: Option<usize>,
}

type Refusal = Box<Answer>;

/// The answer to a request for one of these paths.
pub(super) async fn answer(proxy: &Proxy, client: &Client, head: &Parts, body: &Bytes) -> Answer {
    let live = Arc::clone(&proxy.live());
    let admin = &live.snapshot.config.admin;
    if let Err(refusal) = authority::check_host(admin, client, &head.headers) {
        return *refusal;
    }
    let path = head.uri.path();
    let Some(call) = Call::of(path) else {
        return answer::problem(404, "there is no such path; `/` lists them");
    };
    let fits = match head.method {
        Method::GET | Method::HEAD => !call.changes(),
        Method::POST => call.changes(),
        _ => false,
    };
    if !fits {
        return answer::not_allowed(if call.changes() { "POST" } else { "GET, HEAD" });
    }
    if let Err(refusal) = authority::check_change(admin, &head.headers) {
        let (client, status) = (client.name.as_str(), refusal.status.as_u16());
        tracing::warn!(target: "audit", client, path, status, "records refused");
        return *refusal;
    }
    let done = async {
        let asked = asked(head.uri.query().unwrap_or_default())?;
        let ledger = ledger(proxy, &live, asked.store.as_deref())?;
        let desk = Desk { live: &live, client, ledger: &ledger };
        match call {
            Call::List => desk.list(asked).await,
            Call::Show(called) => desk.show(called).await,
            Call::Resolve(called) => desk.change(called, said(body)?).await,
            Call::Purge(called) => desk.change(called, purged(body)?).await,
        }
    };
    done.await.unwrap_or_else(|refusal: Refusal| *refusal)
}

fn refused(status: u16, detail: &str) -> Refusal {
    Box::new(answer::problem(status, detail))
}

fn asked(query: &str) -> Result<Asked, Refusal> {
    let mut asked = Asked::default();
    for (name, value) in query::pairs(query).filter(|(_, value)| !value.is_empty()) {
        match name.as_str() {
            "store" => asked.store = Some(value),
            "state" => asked.states = Some(states(&value)?),
            "after" => asked.after = Some(value),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| *limit > 0);
                let refusal = || refused(400, "`limit` is a number from 1");
                asked.limit = Some(limit.ok_or_else(refusal)?);
            }
            _ => {
                let detail =
                    format!("`{name}` is no parameter; give store, state, after and limit");
                return Err(refused(400, &detail));
            }
        }
    }
    Ok(asked)
}

/// Names of states with commas, or `all`.
fn states(text: &str) -> Result<Vec<State>, Refusal> {
    if text == "all" {
        return Ok(State::ALL.to_vec());
    }
    let of = |name: &str| {
        State::ALL.into_iter().find(|state| state.name() == name).ok_or_else(|| {
            let names = State::ALL.map(State::name).join(", ");
            refused(400, &format!("`{name}` is no state; they are {names}, and all"))
        })
    };
    text.split(',').map(of).collect()
}

/// The store that is meant: the only one, unless its name is given.
fn ledger(proxy: &Proxy, live: &Live, name: Option<&str>) -> Result<Arc<Ledger>, Refusal> {
    let mut names = live.snapshot.config.stores.keys();
    let name = match (name, names.len()) {
        (Some(name), _) => name,
        (None, 0) => return Err(refused(404, "the configuration has no stores")),
        (None, 1) => names.next().map_or("", String::as_str),
        (None, _) => {
            let names: Vec<_> = names.map(String::as_str).collect();
            let detail = format!("there are several stores; give store={}", names.join(" or "));
            return Err(refused(400, &detail));
        }
    };
    proxy.stores.get(name).ok_or_else(|| refused(404, &format!("no store is named `{name}`")))
}

/// What an operator says, and whether in spite of what it may lead to.
struct Said {
    word: Word,
    force: bool,
}

/// The body of a resolution.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Resolved {
    executed: bool,
    status: Option<u16>,
    #[serde(default)]
    force: bool,
}

/// The body of a removal; there may be none.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Purged {
    #[serde(default)]
    force: bool,
}

const RESOLVE: &str = "say {\"executed\": true, \"status\": 201} with the status that the answer \
                       had or would have had (200 to 599), or {\"executed\": false}";

fn said(body: &[u8]) -> Result<Said, Refusal> {
    let said: Resolved = serde_json::from_slice(body)
        .map_err(|error| refused(400, &format!("{RESOLVE}; {error}")))?;
    let how = match (said.executed, said.status) {
        (true, Some(status @ 200..=599)) => Resolution::Executed { status },
        (false, None) => Resolution::NotExecuted,
        _ => return Err(refused(400, RESOLVE)),
    };
    Ok(Said { word: Word::Resolved(how), force: said.force })
}

fn purged(body: &[u8]) -> Result<Said, Refusal> {
    let said: Purged = if body.trim_ascii().is_empty() {
        Purged::default()
    } else {
        let refusal = |error| refused(400, &format!("say {{\"force\": true}} or nothing; {error}"));
        serde_json::from_slice(body).map_err(refusal)?
    };
    Ok(Said { word: Word::Purge, force: said.force })
}

/// Where one operator is served from one store.
struct Desk<'a> {
    live: &'a Live,
    client: &'a Client,
    ledger: &'a Ledger,
}

impl Desk<'_> {
    async fn list(&self, asked: Asked) -> Result<Answer, Refusal> {
        let states = asked.states.unwrap_or_else(|| vec![State::Unknown]);
        let limit = asked.limit.unwrap_or(LIMIT);
        let by = clock::now() + FIND_TIME;
        let listing = operator::list(self.ledger, states, asked.after.as_deref(), limit, by).await;
        let listing = listing
            .map_err(|fault| self.unreachable(&fault))?
            .ok_or_else(|| refused(400, "`after` is what an earlier answer had as `next`"))?;
        Ok(answer::json(200, &ListingView::new(&self.ledger.name, &listing)))
    }

    async fn show(&self, called: &str) -> Result<Answer, Refusal> {
        let record = self.find(called, clock::now() + FIND_TIME).await?;
        Ok(answer::json(200, &RecordView::new(&self.ledger.name, &record)))
    }

    async fn find(&self, called: &str, by: Instant) -> Result<Named, Refusal> {
        let found = operator::find(self.ledger, called, by).await;
        found.map_err(|fault| self.unreachable(&fault))?.ok_or_else(|| {
            let store = &self.ledger.name;
            let detail = format!(
                "store `{store}` has no record that is called `{}`; its time may be over",
                called.escape_debug()
            );
            refused(404, &detail)
        })
    }

    async fn change(&self, called: &str, said: Said) -> Result<Answer, Refusal> {
        let record = self.find(called, clock::now() + FIND_TIME).await?;
        let before = record.seen.state.map_or("absent", State::name);
        if !said.force
            && let Some(detail) = self.too_early(&record, said.word)
        {
            self.audit(&record, said.word, before, "too_early");
            return Err(refused(409, &detail));
        }
        let by = clock::now() + CHANGE_TIME;
        let settled = operator::settle(self.ledger, &record, said.word, self.retention(), by).await;
        let outcome = match settled {
            Ok(Settled::Done | Settled::Reasserted) => "done",
            Ok(Settled::Already) => "already",
            Ok(Settled::Fenced { .. }) => {
                self.audit(&record, said.word, before, "refused");
                return Err(refused(409, &not_now(before, said.word)));
            }
            Err(Fault::NotApplied(_)) => "not_done",
            Err(Fault::Ambiguous(_)) => "not_known",
        };
        self.audit(&record, said.word, before, outcome);
        let after = match said.word {
            Word::Resolved(Resolution::Executed { .. }) => State::Completed.name(),
            Word::Resolved(Resolution::NotExecuted) | Word::Purge => "absent",
        };
        match settled {
            Err(fault) => Err(self.unreachable(&fault)),
            Ok(_) => {
                let reference = &record.reference;
                Ok(answer::json(200, &ChangeView { reference, outcome, before, after }))
            }
        }
    }

    /// Why it cannot be said yet that nothing was executed, nor the key be freed.
    fn too_early(&self, record: &Named, word: Word) -> Option<String> {
        if matches!(word, Word::Resolved(Resolution::Executed { .. })) {
            return None;
        }
        let left = operator::settles_in(&record.seen, self.settle_delay())?;
        Some(format!(
            "the upstream may still execute it: wait {} s, or say \"force\": true when you know \
             that it will not",
            left.as_secs().max(1)
        ))
    }

    /// The routes that keep their records here.
    fn routes(&self) -> impl Iterator<Item = &Settings> {
        let routes = self.live.snapshot.routes.iter();
        let keyed = routes.filter_map(|route| route.settings.idempotency.as_ref());
        keyed.filter(|settings| settings.store.as_deref() == Some(&*self.ledger.name))
    }

    /// Of the probes of all routes the longest: it is not known which of them a record is of.
    fn settle_delay(&self) -> Duration {
        let probes = self.routes().filter_map(|settings| settings.probe.as_ref());
        probes.map(|probe| probe.settle_delay.get()).max().unwrap_or(SETTLE_DELAY)
    }

    /// The longest of all routes, likewise.
    fn retention(&self) -> Retention {
        let own = Settings::default().retention();
        self.routes().map(Settings::retention).fold(own, |a, b| Retention {
            body: a.body.max(b.body),
            key: a.key.max(b.key),
            unknown: a.unknown.max(b.unknown),
        })
    }

    fn audit(&self, record: &Named, word: Word, before: &str, outcome: &str) {
        let status = match word {
            Word::Resolved(Resolution::Executed { status }) => Some(status),
            _ => None,
        };
        let after = match (outcome, word) {
            ("done" | "already", Word::Resolved(Resolution::Executed { .. })) => {
                State::Completed.name()
            }
            ("done" | "already", _) => "absent",
            ("not_known", _) => "not known",
            _ => before,
        };
        tracing::info!(
            target: "audit",
            client = self.client.name,
            action = action(word),
            store = &*self.ledger.name,
            record = record.reference,
            before,
            after,
            status,
            outcome,
            "operator's change of a record"
        );
    }

    fn unreachable(&self, fault: &Fault) -> Refusal {
        let store = &self.ledger.name;
        let detail = match fault {
            Fault::NotApplied(_) => format!("store `{store}` did nothing: {fault}"),
            Fault::Ambiguous(_) => {
                format!("store `{store}` did not answer ({fault}); asking again does no harm")
            }
        };
        refused(503, &detail)
    }
}

const fn action(word: Word) -> &'static str {
    match word {
        Word::Resolved(Resolution::Executed { .. }) => "resolve_executed",
        Word::Resolved(Resolution::NotExecuted) => "resolve_not_executed",
        Word::Purge => "purge",
    }
}

fn not_now(before: &str, word: Word) -> String {
    match (word, before) {
        (Word::Purge, "in_flight") => {
            "it is in flight: its owner is at work on it, and its record stays until its lease \
             ends"
                .to_owned()
        }
        (Word::Purge, _) => "it has changed since it was looked at; look again".to_owned(),
        (Word::Resolved(_), "unknown") => {
            "it has changed since it was looked at, or cannot be read; look again, and purge what \
             cannot be read"
                .to_owned()
        }
        (Word::Resolved(_), state) => format!("it is {state}; only what is unknown is resolved"),
    }
}

#[cfg(test)]
mod tests;
