//! Rules of policies, wherever they stand.

use super::super::pattern::{is_call_name, is_path, is_token};
use super::{At, Check};
use crate::policy::load_balancing::{HashOn, Policy};
use crate::policy::queue::{Length, MAX_LENGTH};
use crate::policy::rate_limit::OnLimit;
use crate::policy::retry::Condition;
use crate::policy::{Mode, bulkhead, concurrency, hedge, mirror, queue, retry, timeout};
use crate::policy::{circuit_breaker, ejection, health_check, load_balancing, rate_limit};
use crate::units::{ByteSize, Factor, Period, Ratio};

/// More attempts than this multiply a failure instead of hiding it.
const MOST_ATTEMPTS: u32 = 10;
/// The largest body that is kept for a retry: it is held for each request in flight.
const MOST_BUFFER: ByteSize = ByteSize::kib(16 << 10);
/// A shorter window has too few buckets to mean anything.
const LEAST_WINDOW: Period = Period::from_secs(1);
/// A longer window remembers what nobody can act on.
const MOST_WINDOW: Period = Period::from_secs(3600);
/// The most trials in flight at once while a circuit is half open.
const MOST_TRIALS: u32 = 100;
/// The most requests in flight that a limit can be set to: each holds memory.
const MOST_CONCURRENT: u32 = 100_000;
/// The longest wait in a queue: who waits longer was forgotten by its caller.
const MOST_WAIT: Period = Period::from_secs(60);
/// The most results in a row that a health check can wait for.
const MOST_CHECKS: u32 = 100;

/// The largest body that is kept for a copy: it is held for each request in flight that was drawn.
const MOST_COPIED: ByteSize = ByteSize::kib(16 << 10);
/// The most copies of a route's requests that may be under way.
const MOST_COPIES: u32 = 10_000;

pub(super) fn timeouts(check: &mut Check<'_>, at: At<'_>, settings: &timeout::Settings) {
    let zeros = [
        ("total", settings.total.is_some_and(|t| t.is_zero())),
        ("per_try", settings.per_try.is_some_and(|t| t.is_zero())),
        ("connect", settings.connect.is_zero()),
        ("idle", settings.idle.is_zero()),
    ];
    for (key, _) in zeros.iter().filter(|(_, zero)| *zero) {
        check.problem(&format_args!("{at}.{key}"), "is 0, so that nothing could succeed");
    }
    let Some(total) = settings.total else { return };
    let longer = |what: Period| format!("is {what}, longer than `total`, {total}");
    if let Some(per_try) = settings.per_try.filter(|per_try| *per_try > total) {
        check.conflict(&format_args!("{at}.per_try"), longer(per_try));
    }
    if settings.connect > total {
        check.conflict(&format_args!("{at}.connect"), longer(settings.connect));
    }
}

pub(super) fn retry(check: &mut Check<'_>, at: At<'_>, settings: &retry::Settings) {
    check.range(&format_args!("{at}.max_attempts"), settings.max_attempts, 1, MOST_ATTEMPTS);
    let backoff = &settings.backoff;
    if backoff.base > backoff.max {
        let message = format!("is {}, longer than `max`, {}", backoff.base, backoff.max);
        check.conflict(&format_args!("{at}.backoff.base"), message);
    }
    check.range(&format_args!("{at}.buffer"), settings.buffer, ByteSize::bytes(0), MOST_BUFFER);
    conditions(check, &format_args!("{at}.on"), &settings.on);
}

/// All attempts at their full length must fit into the whole.
pub(super) fn attempts_fit(
    check: &mut Check<'_>,
    at: At<'_>,
    retry: &retry::Settings,
    timeouts: &timeout::Settings,
) {
    let (Some(total), Some(per_try)) = (timeouts.total, timeouts.per_try) else { return };
    if retry.mode == Mode::Off {
        return;
    }
    let readable = check.readable(&format_args!("{at}.retry")) && per_try <= total;
    let all = per_try.get().saturating_mul(retry.max_attempts);
    if readable && (2..=MOST_ATTEMPTS).contains(&retry.max_attempts) && all > total.get() {
        let attempts = retry.max_attempts;
        let message = format!(
            "{attempts} attempts of {per_try} do not fit into `total`, {total}; lower it or \
             `retry.max_attempts`, or leave it null for total / attempts"
        );
        check.conflict(&format_args!("{at}.timeouts.per_try"), message);
    }
}

pub(super) fn circuit_breaker(
    check: &mut Check<'_>,
    at: At<'_>,
    settings: &circuit_breaker::Settings,
) {
    check.range(&format_args!("{at}.window"), settings.window, LEAST_WINDOW, MOST_WINDOW);
    check.some(&format_args!("{at}.min_requests"), settings.min_requests);
    check.range(&format_args!("{at}.trials"), settings.trials, 1, MOST_TRIALS);
    if settings.consecutive == Some(0) {
        check.problem(&format_args!("{at}.consecutive"), "is 0; write null to leave it unjudged");
    }
    let shares = [("failure_ratio", settings.failure_ratio), ("slow.ratio", settings.slow.ratio)];
    for (key, share) in shares {
        if share.get() <= 0.0 {
            let message = "is 0%, so that the circuit would open without a cause";
            check.problem(&format_args!("{at}.{key}"), message);
        }
    }
    if settings.open.is_zero() {
        check.problem(&format_args!("{at}.open"), "is 0, so that the circuit would never be open");
    }
    if settings.open > settings.open_max {
        let message =
            format!("is {}, longer than `open_max`, {}", settings.open, settings.open_max);
        check.conflict(&format_args!("{at}.open"), message);
    }
    if settings.slow.over.is_some_and(|over| over.is_zero()) {
        let path = format!("{at}.slow.over");
        check.problem(&path, "is 0; write null to leave slowness unjudged");
    }
    conditions(check, &format_args!("{at}.failures"), &settings.failures);
}

fn conditions(check: &mut Check<'_>, at: At<'_>, list: &[Condition]) {
    for (index, condition) in list.iter().enumerate() {
        if list.iter().take(index).any(|other| other == condition) {
            check.conflict(
                &format_args!("{at}[{index}]"),
                format!("`{condition}` is in this list already"),
            );
        }
    }
}

pub(super) fn rate_limit(check: &mut Check<'_>, at: At<'_>, settings: &rate_limit::Settings) {
    if settings.burst == Some(0) {
        let path = format!("{at}.burst");
        check.problem(&path, "is 0, so that nothing could pass; write 1 or more");
    }
    if settings.rate.is_none() && !settings.learn_from_429 {
        let message = "is missing; write how many requests may pass, such as 100/s, or \
                       `learn_from_429: true` to find out what the upstream allows";
        check.problem(&format_args!("{at}.rate"), message);
    }
    match &settings.key {
        Some(_) if settings.learn_from_429 => check.conflict(
            &format_args!("{at}.key"),
            "cannot be used with `learn_from_429`, which learns what the upstream allows all of \
             them together; write a route for each",
        ),
        Some(HashOn::Cookie(_)) => check.problem(
            &format_args!("{at}.key"),
            "cannot be a cookie, which a client changes at will; write header:<name> or client_ip",
        ),
        Some(key) => hash_on(check, &format_args!("{at}.key"), key),
        None => {}
    }
    match settings.on_limit {
        OnLimit::Wait if settings.max_wait.is_zero() => check.conflict(
            &format_args!("{at}.on_limit"),
            "is `wait` without a `max_wait`; write how long a request may wait",
        ),
        OnLimit::Reject if !settings.max_wait.is_zero() => {
            let message = "has no effect without `on_limit: wait`";
            check.conflict(&format_args!("{at}.max_wait"), message);
        }
        OnLimit::Wait | OnLimit::Reject => {}
    }
}

pub(super) fn concurrency(check: &mut Check<'_>, at: At<'_>, settings: &concurrency::Settings) {
    let concurrency::Settings { min, max, initial, .. } = settings;
    check.range(&format_args!("{at}.min"), *min, 1, MOST_CONCURRENT);
    check.range(&format_args!("{at}.max"), *max, 1, MOST_CONCURRENT);
    if min > max {
        let message = format!("is {min}, more than `max`, {max}");
        check.conflict(&format_args!("{at}.min"), message);
    } else if initial < min || initial > max {
        let message = format!("is {initial}; it must be from `min`, {min}, to `max`, {max}");
        check.conflict(&format_args!("{at}.initial"), message);
    }
    queue(check, &format_args!("{at}.queue"), &settings.queue);
}

pub(super) fn hedge(check: &mut Check<'_>, at: At<'_>, settings: &hedge::Settings) {
    let most = settings.max_extra.get();
    if most <= 0.0 {
        let path = format!("{at}.max_extra");
        check.problem(&path, "is 0%, so that no copy would ever be sent; write null for none");
    }
}

pub(super) fn bulkhead(check: &mut Check<'_>, at: At<'_>, settings: &bulkhead::Settings) {
    check.range(&format_args!("{at}.max_concurrent"), settings.max_concurrent, 1, MOST_CONCURRENT);
    queue(check, &format_args!("{at}.queue"), &settings.queue);
}

fn queue(check: &mut Check<'_>, at: At<'_>, settings: &queue::Settings) {
    if let Length::Count(count) = settings.max {
        check.range(&format_args!("{at}.max"), count, 0, MAX_LENGTH);
    }
    let waits = settings.max != Length::Count(0);
    if waits && settings.max_wait.is_zero() {
        let message = "is 0, so that nobody could wait; write `max: 0` for no queue";
        check.conflict(&format_args!("{at}.max_wait"), message);
    }
    if settings.max_wait > MOST_WAIT {
        let message = format!("is {}; it must be {MOST_WAIT} or less", settings.max_wait);
        check.problem(&format_args!("{at}.max_wait"), message);
    }
}

pub(super) fn load_balancing(
    check: &mut Check<'_>,
    at: At<'_>,
    settings: &load_balancing::Settings,
) {
    match (settings.policy, &settings.hash_on) {
        (Policy::RingHash, None) => check.conflict(
            &format_args!("{at}.policy"),
            "is `ring_hash` without `hash_on`; write header:<name>, cookie:<name> or client_ip",
        ),
        (Policy::RingHash, Some(key)) => hash_on(check, &format_args!("{at}.hash_on"), key),
        (_, Some(_)) => check
            .conflict(&format_args!("{at}.hash_on"), "has no effect without `policy: ring_hash`"),
        (_, None) => {}
    }
    if settings.bound < Factor::percent(100) {
        let message =
            format!("is {}; an endpoint must be allowed its mean load, 100%", settings.bound);
        check.problem(&format_args!("{at}.bound"), message);
    }
}

pub(super) fn hash_on(check: &mut Check<'_>, at: At<'_>, key: &HashOn) {
    if let HashOn::Header(name) | HashOn::Cookie(name) = key
        && !is_token(name)
    {
        check.problem(at, format!("`{name}` cannot be the name of a header field or cookie"));
    }
}

pub(super) fn ejection(check: &mut Check<'_>, at: At<'_>, settings: &ejection::Settings) {
    check.range(&format_args!("{at}.window"), settings.window, LEAST_WINDOW, MOST_WINDOW);
    let path = format!("{at}.consecutive_failures");
    check.some(&path, settings.consecutive_failures);
    check.some(&format_args!("{at}.min_requests"), settings.min_requests);
    if settings.failure_ratio.get() <= 0.0 {
        let message = "is 0%, so that every endpoint would be ejected without a cause";
        check.problem(&format_args!("{at}.failure_ratio"), message);
    }
    if settings.base.is_zero() {
        check.problem(&format_args!("{at}.base"), "is 0, so that nothing would be ejected");
    }
    if settings.base > settings.max {
        let message = format!("is {}, longer than `max`, {}", settings.base, settings.max);
        check.conflict(&format_args!("{at}.base"), message);
    }
}

pub(super) fn health_check(check: &mut Check<'_>, at: At<'_>, settings: &health_check::Settings) {
    let target = settings.path.split_once('?').map_or(settings.path.as_str(), |(path, _)| path);
    if !is_path(target) || settings.path.bytes().any(|b| b <= b' ' || b >= 0x7f || b == b'#') {
        let message = format!("`{}` is not a path; it begins with `/`", settings.path);
        check.problem(&format_args!("{at}.path"), message);
    }
    if let Some(grpc) = &settings.grpc {
        let written = check.written(&at.to_string());
        for key in ["path", "expect"] {
            if written.iter().any(|given| given == key) {
                let message = "stands beside `grpc`, which asks in a way of its own";
                check.problem(&format_args!("{at}.{key}"), message);
            }
        }
        if !grpc.service.is_empty() && !is_call_name(&grpc.service) {
            let message = format!(
                "`{}` is not the name of a service; write it with its package, or \"\" for the \
                 server as a whole",
                grpc.service
            );
            check.problem(&format_args!("{at}.grpc.service"), message);
        }
    }
    for (key, period) in [("interval", settings.interval), ("timeout", settings.timeout)] {
        if period < Period::from_millis(10) {
            let path = format!("{at}.{key}");
            check.problem(&path, format!("is {period}; it must be 10ms or more"));
        }
    }
    if settings.timeout > settings.interval {
        let (timeout, interval) = (settings.timeout, settings.interval);
        let message = format!("is {timeout}, longer than `interval`, {interval}");
        check.conflict(&format_args!("{at}.timeout"), message);
    }
    check.range(&format_args!("{at}.healthy_after"), settings.healthy_after, 1, MOST_CHECKS);
    check.range(&format_args!("{at}.unhealthy_after"), settings.unhealthy_after, 1, MOST_CHECKS);
}

pub(super) fn mirror(check: &mut Check<'_>, at: At<'_>, settings: &mirror::Settings) {
    if settings.share == Ratio::percent(0) {
        let path = format!("{at}.share");
        check.problem(&path, "is 0%, so that nothing is copied; write null for no mirror");
    }
    let path = format!("{at}.max_concurrent");
    check.range(&path, settings.max_concurrent, 1, MOST_COPIES);
    if settings.max_body > MOST_COPIED {
        let path = format!("{at}.max_body");
        check.problem(&path, format!("is {}; {MOST_COPIED} is the most", settings.max_body));
    }
}
