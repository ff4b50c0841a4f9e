//! Who a request is: its key, its principal, and the fingerprint of what it asks for.

use http::{HeaderMap, HeaderValue};

use super::refuse::Problem;
use crate::policy::idempotency::identity::{self, FINGERPRINT_VERSION};
use crate::policy::idempotency::key::Key;
use crate::policy::idempotency::problem::Code;
use crate::policy::idempotency::record::{Fingerprint, Principal, Rid};
use crate::policy::idempotency::settings::Source;
use crate::proxy::context::Context;
use crate::proxy::error::Refusal;
use crate::proxy::outbound::{Outbound, Ungathered};
use crate::proxy::pipeline::Journey;
use crate::records::codec::digest_of;
use crate::snapshot::keys::Keys;
use crate::telemetry::reason::Reason;

/// The recipe of what principals are counted by.
const OF_PRINCIPALS: u8 = 1;

/// A request under a key.
#[derive(Clone)]
pub struct Asked {
    /// The name of its record.
    pub rid: Rid,
    /// What it asks for.
    pub fingerprint: Fingerprint,
    /// Whose it is.
    pub principal: Principal,
    /// The key itself, for a probe; never logged, never stored.
    pub key: Key,
}

/// Reads the key and the principal, then the body, and makes the fingerprint. Nothing when there is
/// no key and none is required.
pub(super) async fn ask(
    ctx: &Context,
    journey: &Journey,
    keys: &Keys,
) -> Result<Option<Asked>, Problem> {
    let settings = &keys.settings;
    let outbound = &journey.outbound;
    let values = outbound.headers().get_all(&keys.key_header);
    let key = match Key::parse(values.iter().map(HeaderValue::as_bytes)) {
        Ok(Some(key)) => key,
        Ok(None) if !settings.required => return Ok(None),
        Ok(None) => return Err(Code::KeyMissing.into()),
        Err(why) => return Err(Problem::new(Code::KeyInvalid).because(why.detail())),
    };
    let scope = scope(ctx, outbound.headers(), &settings.scope)
        .ok_or_else(|| Problem::new(Code::ScopeMissing))?;
    let fingerprint = fingerprint(outbound, keys).await?;
    let principal = principal(&scope, &settings.scope);
    let rid = Rid(keys.rid(&scope, key.as_bytes()));
    Ok(Some(Asked { rid, fingerprint, principal, key }))
}

/// Whose the request is. What anybody may write says nothing of who wrote it, so fields count only
/// where the listener believes its clients.
fn scope(ctx: &Context, headers: &HeaderMap, sources: &[Source]) -> Option<Vec<u8>> {
    let believed = ctx.site.as_ref().is_some_and(|site| site.trusted);
    let kept: Vec<Source>;
    let sources = if believed {
        sources
    } else {
        let own = |source: &&Source| !matches!(source, Source::Header(_));
        kept = sources.iter().filter(own).cloned().collect();
        &kept
    };
    let name = ctx.peer.identity().and_then(|identity| identity.name());
    identity::principal(sources, |name| values(headers, name), name.map(str::as_bytes))
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers.get_all(name).iter().map(HeaderValue::as_bytes).collect()
}

/// By what a store counts a principal's records.
fn principal(scope: &[u8], sources: &[Source]) -> Principal {
    if sources == [Source::Nobody] {
        return Principal::ALL;
    }
    let digest = digest_of(OF_PRINCIPALS, &[scope]);
    Principal(digest.first_chunk().copied().unwrap_or_default())
}

async fn fingerprint(outbound: &Outbound, keys: &Keys) -> Result<Fingerprint, Problem> {
    let settings = &keys.settings;
    let gathered = match outbound.gather(settings.fingerprint_body.as_usize()).await {
        Ok(gathered) => gathered,
        Err(Ungathered::TooLarge) => return Err(Code::BodyTooLarge.into()),
        Err(Ungathered::NoRoom) => return Err(Refusal::from(Reason::SelfProtection).into()),
        Err(Ungathered::Failed(failure)) => return Err(Refusal::from(failure).into()),
    };
    let target = outbound.uri().path_and_query().map_or("/", |target| target.as_str());
    let method = outbound.method().as_str();
    let fields = |name: &str| values(outbound.headers(), name);
    let mut parts = identity::fingerprint(settings, method, target, fields);
    if identity::covers_body(settings) {
        parts.push(gathered.pieces.concat());
    }
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let version = FINGERPRINT_VERSION;
    Ok(Fingerprint { version, digest: keys.digests.of(version, &parts) })
}
