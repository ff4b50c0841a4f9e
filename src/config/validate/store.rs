//! Rules of the stores of Idempotency-Key records.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::store::{Embedded, Etcd, KEY_BYTES, Memory, Redis, Store, key};
use super::super::tree::join;
use super::upstream::is_host;
use super::{At, Check};
use crate::policy::idempotency::settings::{LONGEST_DEADLINE, SHORTEST_DEADLINE};
use crate::units::ByteSize;

/// The most records in memory; each takes a kilobyte or more.
const MOST_ENTRIES: u32 = 10_000_000;
/// Less would not hold one answer of the default size.
const LEAST_BYTES: ByteSize = ByteSize::kib(1 << 10);
/// More is a database's work.
const MOST_BYTES: ByteSize = ByteSize::kib(1 << 30);
/// The most replicas that a write can wait for.
const MOST_REPLICAS: u32 = 16;
/// The most addresses of one store.
const MOST_ADDRESSES: usize = 32;
/// The longest prefix of the names of records; it is stored with each.
const LONGEST_PREFIX: usize = 128;

pub(super) fn check(check: &mut Check<'_>, stores: &BTreeMap<String, Store>) {
    let mut files: Vec<(&Path, String)> = Vec::new();
    for (name, store) in stores {
        let at = join("stores", name);
        check.name(&at, name);
        kinds(check, &at, store);
        if let Some(memory) = &store.memory {
            self::memory(check, &format_args!("{at}.memory"), memory);
        }
        if let Some(embedded) = &store.embedded {
            self::embedded(check, &format_args!("{at}.embedded"), embedded);
        }
        if let Some(redis) = &store.redis {
            self::redis(check, &format!("{at}.redis"), redis);
        }
        if let Some(etcd) = &store.etcd {
            self::etcd(check, &format!("{at}.etcd"), etcd);
        }
        secret(check, &format!("{at}.aead_key"), store.aead_key.as_deref());
        secret(check, &format!("{at}.fingerprint_key"), store.fingerprint_key.as_deref());
        once(check, &at, store, &mut files);
    }
}

fn kinds(check: &mut Check<'_>, at: &str, store: &Store) {
    let kinds = [
        ("memory", store.memory.is_some()),
        ("embedded", store.embedded.is_some()),
        ("redis", store.redis.is_some()),
        ("etcd", store.etcd.is_some()),
    ];
    let mut given = kinds.iter().filter(|(_, given)| *given).map(|(kind, _)| *kind);
    match (given.next(), given.next()) {
        (None, _) => check.conflict(
            &format_args!("{at}.memory"),
            "is missing, as are `embedded`, `redis` and `etcd`; write one of them, such as \
             `memory: {}`",
        ),
        (Some(first), Some(second)) => check.problem(
            &format_args!("{at}.{second}"),
            format!("stands beside `{first}`; a store is of one kind"),
        ),
        (Some(_), None) => {}
    }
}

fn memory(check: &mut Check<'_>, at: At<'_>, memory: &Memory) {
    check.range(&format_args!("{at}.max_entries"), memory.max_entries, 1, MOST_ENTRIES);
    check.range(&format_args!("{at}.max_bytes"), memory.max_bytes, LEAST_BYTES, MOST_BYTES);
}

fn embedded(check: &mut Check<'_>, at: At<'_>, embedded: &Embedded) {
    check.range(&format_args!("{at}.max_bytes"), embedded.max_bytes, LEAST_BYTES, MOST_BYTES);
    if embedded.path.as_os_str().is_empty() {
        check.problem(&format_args!("{at}.path"), "is empty; write the path of a file");
    }
}

fn redis(check: &mut Check<'_>, at: &str, redis: &Redis) {
    let path = format!("{at}.url");
    let addresses: Vec<&str> = redis.url.split(',').map(str::trim).collect();
    // The address itself is not repeated: it may hold a password in a place that nobody expects.
    if addresses.len() > MOST_ADDRESSES {
        let count = addresses.len();
        check.problem(&path, format!("has {count} addresses; {MOST_ADDRESSES} is the most"));
    } else if let Some(which) = addresses.iter().position(|address| !is_redis(address)) {
        let message = format!(
            "address {} is none of Redis; write redis://host:port, rediss://host:port or \
             unix:/path, with user:password@ before the host and /database behind it if need be",
            which + 1
        );
        check.problem(&path, message);
    }
    if redis.sentinel.as_deref().is_some_and(str::is_empty) {
        check.problem(&format_args!("{at}.sentinel"), "is empty; write null for no sentinels");
    }
    if redis.ca.is_some() && !addresses.iter().all(|address| address.starts_with("rediss://")) {
        let message = "has no effect without TLS; write rediss:// in `url`";
        check.conflict(&format_args!("{at}.ca"), message);
    }
    check.range(&format_args!("{at}.wait_replicas"), redis.wait_replicas, 0, MOST_REPLICAS);
    let (low, high) = (SHORTEST_DEADLINE, LONGEST_DEADLINE);
    check.range(&format_args!("{at}.op_timeout"), redis.op_timeout, low, high);
    prefix(check, &format_args!("{at}.prefix"), &redis.prefix);
}

fn is_redis(address: &str) -> bool {
    if let Some(path) = address.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return path.starts_with('/') && path.len() > 1;
    }
    let rest = address.strip_prefix("redis://").or_else(|| address.strip_prefix("rediss://"));
    let Some(rest) = rest else { return false };
    let (authority, tail) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let database = tail.strip_prefix('/').unwrap_or(tail).split('?').next().unwrap_or("");
    is_authority(host, false) && database.bytes().all(|b| b.is_ascii_digit())
}

fn etcd(check: &mut Check<'_>, at: &str, etcd: &Etcd) {
    let path = format!("{at}.endpoints");
    let count = etcd.endpoints.len();
    if count == 0 {
        check.problem(&path, "is empty; write the members, such as http://127.0.0.1:2379");
    } else if count > MOST_ADDRESSES {
        check.problem(&path, format!("has {count} entries; {MOST_ADDRESSES} is the most"));
    }
    let whole = check.readable(&path);
    let mut tls = 0;
    for (index, endpoint) in etcd.endpoints.iter().enumerate().filter(|_| whole) {
        let here = format!("{path}[{index}]");
        let https = endpoint.strip_prefix("https://");
        tls += usize::from(https.is_some());
        let authority = https.or_else(|| endpoint.strip_prefix("http://"));
        let authority = authority.map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        if authority.is_some_and(|authority| authority.contains('@')) {
            check.problem(&here, "has a user in it, which is not supported");
        } else if !authority.is_some_and(|authority| is_authority(authority, true)) {
            check.problem(&here, "is no member's address; write http://host:port or https://…");
        } else if etcd.endpoints.iter().take(index).any(|other| other == endpoint) {
            check.problem(&here, format!("`{endpoint}` is in this list already"));
        }
    }
    if whole && tls > 0 && tls < count {
        check.problem(&path, "has members with TLS and members without; write them all alike");
    }
    if etcd.ca.is_some() && tls == 0 {
        let message = "has no effect without TLS; write https:// in `endpoints`";
        check.conflict(&format_args!("{at}.ca"), message);
    }
    let (low, high) = (SHORTEST_DEADLINE, LONGEST_DEADLINE);
    check.range(&format_args!("{at}.op_timeout"), etcd.op_timeout, low, high);
    prefix(check, &format_args!("{at}.prefix"), &etcd.prefix);
}

/// A host with a port, which can be left out where there is a usual one.
fn is_authority(text: &str, port_needed: bool) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let named = v6.map_or_else(|| is_host(host), |v6| v6.parse::<std::net::Ipv6Addr>().is_ok());
    named && port.map_or(!port_needed, |port| matches!(port.parse::<u16>(), Ok(1..)))
}

fn prefix(check: &mut Check<'_>, at: At<'_>, prefix: &str) {
    if prefix.is_empty() || prefix.len() > LONGEST_PREFIX {
        let message = format!("must be 1 to {LONGEST_PREFIX} bytes long, such as `outrigger:`");
        check.problem(at, message);
    } else if prefix.contains(['{', '}']) || prefix.bytes().any(|b| b <= b' ' || b == 0x7f) {
        // Braces choose the slot of a cluster, and would put all records onto one node.
        check.problem(at, "has spaces, control characters or braces, which names cannot have");
    }
}

fn secret(check: &mut Check<'_>, at: &str, text: Option<&str>) {
    let Some(text) = text else { return };
    if !check.substituted(at) {
        check.problem(
            &at,
            "stands in the file, where whoever reads the file reads it too; put it into the \
             environment or a file of its own, and write ${NAME} or ${file:/path}",
        );
    } else if key(text).is_none() {
        let message = format!(
            "is not {KEY_BYTES} bytes in base64; `openssl rand -base64 {KEY_BYTES}` makes such a \
             key"
        );
        check.problem(&at, message);
    }
}

/// Two stores, or a store and a spool, in one file.
fn once<'v>(
    check: &mut Check<'_>,
    at: &str,
    store: &'v Store,
    files: &mut Vec<(&'v Path, String)>,
) {
    let named = [
        ("embedded.path", store.embedded.as_ref().map(|one| one.path.as_path())),
        ("redis.spool", store.redis.as_ref().and_then(|one| one.spool.as_deref())),
        ("etcd.spool", store.etcd.as_ref().and_then(|one| one.spool.as_deref())),
    ];
    for (key, file) in named {
        let Some(file) = file else { continue };
        let path = format!("{at}.{key}");
        match files.iter().find(|(other, _)| *other == file) {
            Some((_, other)) => {
                check.problem(&path, format!("is the file of `{other}` as well"));
            }
            None => files.push((file, path)),
        }
    }
}

#[cfg(test)]
mod tests;
