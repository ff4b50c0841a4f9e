//! Finds the servers, keeps a link to each, and follows a cluster as it divides its slots anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::cmd;

use super::address::{Address, Layout, Target};
use super::connect;
use super::link::{LOOK, Link, Task};
use super::quota::FLUSH;
use super::shared::{Shared, everything};
use super::slots::{Run, runs};
use crate::clock;
use crate::config;
use crate::records::{Cause, Kind};

/// The wait before settings that cannot be used are read again: a file may be put right.
const WAIT: Duration = Duration::from_secs(2);
/// The least time between two questions for the slots, however many records have moved.
const LEAST: Duration = Duration::from_millis(100);

type Links = HashMap<Address, (Arc<Link>, Task)>;

/// Runs for as long as the store is there.
pub(super) async fn run(shared: Arc<Shared>, config: config::store::Redis) {
    let target = loop {
        match Target::of(&config) {
            Ok(target) => break Arc::new(target),
            Err(cause) => {
                tracing::error!(store = %shared.common.name, cause = %cause.detail,
                    "the record store cannot be opened");
                shared.set_target(Err(cause));
                clock::sleep(WAIT).await;
            }
        }
    };
    shared.set_target(Ok(Arc::clone(&target)));
    let accounts = Arc::clone(&shared);
    let _accounts = Task::new(tokio::task::spawn(async move {
        loop {
            clock::sleep(FLUSH).await;
            accounts.flush_quotas().await;
        }
    }));
    match target.layout {
        Layout::Cluster => follow(&shared, &target).await,
        Layout::Single | Layout::Sentinels => {
            let fixed = match target.layout {
                Layout::Single => target.addresses.first().cloned(),
                _ => None,
            };
            let link = Link::new(fixed, true);
            shared.set_routes(everything(&link));
            link.keep(shared).await;
        }
    }
}

async fn follow(shared: &Arc<Shared>, target: &Target) {
    let mut links = Links::new();
    let mut first = true;
    let mut turn = 0;
    loop {
        turn += 1;
        match slots(shared, target, turn).await {
            Ok(runs) => {
                route(shared, &mut links, runs, first);
                first = false;
            }
            Err(cause) => {
                if first {
                    tracing::warn!(store = %shared.common.name, cause = %cause.detail,
                        "the nodes of the record store cannot be asked for its slots");
                }
            }
        }
        clock::sleep(LEAST).await;
        tokio::select! {
            () = clock::sleep(LOOK) => {}
            () = shared.refresh.notified() => {}
        }
    }
}

/// Which node has which slots, as the first node says that answers.
async fn slots(shared: &Shared, target: &Target, turn: usize) -> Result<Vec<Run>, Cause> {
    let mut command = cmd("CLUSTER");
    command.arg("SLOTS");
    let mut last = Cause::new(Kind::Unreachable, "no node of the cluster is known");
    let mut links = shared.links();
    // Another one each time: one that is cut off knows an old division, and says so for ever.
    let by = turn.checked_rem(links.len()).unwrap_or(0);
    links.rotate_left(by);
    for link in links {
        let (Ok(mut open), Some(asked)) = (link.open(), &link.fixed) else { continue };
        match connect::ask(&mut open.connection, &command).await {
            Ok(value) => match runs(&value, asked) {
                Some(runs) if !runs.is_empty() => return Ok(runs),
                _ => last = none(asked),
            },
            Err(cause) => last = cause,
        }
    }
    for asked in &target.addresses {
        match connect::ask_once(asked, target, &target.login, &command).await {
            Ok(value) => match runs(&value, asked) {
                Some(runs) if !runs.is_empty() => return Ok(runs),
                _ => last = none(asked),
            },
            Err(cause) => last = cause,
        }
    }
    Err(last)
}

fn none(asked: &Address) -> Cause {
    Cause::new(Kind::Unavailable, format!("{asked} knows no slots"))
}

fn route(shared: &Arc<Shared>, links: &mut Links, runs: Vec<Run>, first: bool) {
    let mut next = Links::new();
    let mut added = Vec::new();
    let mut routes = Vec::new();
    for (from, to, address) in runs {
        let (link, _) = next.entry(address.clone()).or_insert_with(|| {
            links.remove(&address).unwrap_or_else(|| {
                let link = Link::new(Some(address.clone()), first);
                added.push(Arc::clone(&link));
                // Held in place of the task that is started once the routes are known.
                (link, Task::new(tokio::task::spawn(async {})))
            })
        });
        routes.push((from, to, Arc::clone(link)));
    }
    shared.set_routes(routes);
    for link in added {
        let Some(address) = link.fixed.clone() else { continue };
        let task = Task::new(tokio::task::spawn(Arc::clone(&link).keep(Arc::clone(shared))));
        next.insert(address, (link, task));
    }
    // Tasks of nodes that have no slots any more end here.
    *links = next;
}
