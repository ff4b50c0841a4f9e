//! Records as an operator sees them.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use crate::policy::idempotency::record::{Doubt, Entry, Millis, NEVER, State};
use crate::records::operator::{Listing, Named};
use crate::telemetry::access_log::Rfc3339;

/// Some records.
#[derive(Serialize)]
pub(super) struct ListingView<'a> {
    store: &'a str,
    records: Vec<RecordView<'a>>,
    /// For `after`, when there are more.
    next: Option<&'a str>,
}

impl<'a> ListingView<'a> {
    pub(super) fn new(store: &'a str, listing: &'a Listing) -> Self {
        let records = listing.records.iter().map(|record| RecordView::new(store, record));
        Self { store, records: records.collect(), next: listing.next.as_deref() }
    }
}

/// A record, without anything that its client has sent or was sent.
#[derive(Serialize)]
pub(super) struct RecordView<'a> {
    #[serde(rename = "ref")]
    reference: &'a str,
    store: &'a str,
    state: &'static str,
    /// Why its outcome is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    doubt: Option<&'static str>,
    /// The status that was seen before the outcome became unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    observed_status: Option<u16>,
    /// The answer's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// The size of the answer's body, while it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    body_bytes: Option<usize>,
    #[serde(flatten)]
    kept: Option<KeptView>,
}

/// What is known of a record that can be read. Times are the store's.
#[derive(Serialize)]
struct KeptView {
    attempts: u32,
    fence: u64,
    /// Two may have been sent after the store had forgotten the first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    contested: bool,
    first_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed: Option<String>,
    /// Until when its owner counts as being at work.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_until: Option<String>,
    /// When it is forgotten; null = never.
    keep_until: Option<String>,
}

/// A change that was made.
#[derive(Serialize)]
pub(super) struct ChangeView<'a> {
    #[serde(rename = "ref")]
    pub(super) reference: &'a str,
    /// `done`, or `already`: it had been done before.
    pub(super) outcome: &'a str,
    pub(super) before: &'a str,
    pub(super) after: &'a str,
}

impl<'a> RecordView<'a> {
    pub(super) fn new(store: &'a str, named: &'a Named) -> Self {
        let state = named.seen.state.map_or("absent", State::name);
        let unreadable = (named.seen.entry == Entry::Unreadable).then_some(Doubt::Unreadable);
        let mut view = Self {
            reference: &named.reference,
            store,
            state,
            doubt: unreadable.map(Doubt::name),
            observed_status: None,
            status: None,
            body_bytes: None,
            kept: None,
        };
        let Entry::Record(record) = &named.seen.entry else { return view };
        if named.seen.state == Some(State::Unknown) {
            view.doubt = Some(record.doubt.unwrap_or(Doubt::OwnerLost).name());
            view.observed_status = record.observed_status;
        }
        let answer = record.answer.as_ref();
        view.status = answer.map(|answer| answer.status);
        if named.seen.state == Some(State::Completed) {
            view.body_bytes = answer.and_then(|answer| Some(answer.body.as_ref()?.len()));
        }
        let working = named.seen.state == Some(State::InFlight);
        view.kept = Some(KeptView {
            attempts: record.attempts,
            fence: record.claimant.fence.0,
            contested: record.contested,
            first_seen: time(record.first_seen),
            completed: (record.completed > 0).then(|| time(record.completed)),
            lease_until: working.then(|| time(record.lease_until)),
            keep_until: (record.keep_until != NEVER).then(|| time(record.keep_until)),
        });
        view
    }
}

/// The latest time that is written; what lies beyond is as good as never (the year 9999).
const LAST: Millis = 253_402_300_799_000;

fn time(at: Millis) -> String {
    Rfc3339(UNIX_EPOCH + Duration::from_millis(at.min(LAST))).to_string()
}
