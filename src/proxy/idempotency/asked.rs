//! Who a request is: its key, its principal, and the fingerprint of what it asks for.

use http::{HeaderMap, HeaderName};

use super::refuse::Problem;
use crate::policy::idempotency::key::Key;
use crate::policy::idempotency::problem::Code;
use crate::policy::idempotency::record::{Fingerprint, Principal, Rid};
use crate::policy::idempotency::settings::{Fingerprints, Source};
use crate::proxy::context::Context;
use crate::proxy::error::Refusal;
use crate::proxy::outbound::{Outbound, Ungathered};
use crate::proxy::pipeline::Journey;
use crate::records::codec::digest_of;
use crate::snapshot::keys::Keys;
use crate::telemetry::reason::Reason;

/// The recipe of fingerprints.
const RECIPE: u8 = 1;
/// The kinds of principals, so that none can pass for another kind's.
const OF_HEADER: u8 = 1;
const OF_AUTHORIZATION: u8 = 2;
const OF_CERTIFICATE: u8 = 3;
const NOBODY: u8 = 4;

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
    let key = match Key::parse(values.iter().map(http::HeaderValue::as_bytes)) {
        Ok(Some(key)) => key,
        Ok(None) if !settings.required => return Ok(None),
        Ok(None) => return Err(Code::KeyMissing.into()),
        Err(why) => return Err(Problem::new(Code::KeyInvalid).because(why.detail())),
    };
    let scope = scope(ctx, outbound.headers(), &settings.scope)
        .ok_or_else(|| Problem::new(Code::ScopeMissing))?;
    let fingerprint = fingerprint(outbound, keys).await?;
    let principal = principal(&scope);
    let rid = Rid(keys.rid(&scope, key.as_bytes()));
    Ok(Some(Asked { rid, fingerprint, principal, key }))
}

/// The first of the sources that the request has.
fn scope(ctx: &Context, headers: &HeaderMap, sources: &[Source]) -> Option<Vec<u8>> {
    sources.iter().find_map(|source| match source {
        // What anybody may write says nothing of who wrote it.
        Source::Header(_) if !ctx.site.as_ref().is_some_and(|site| site.trusted) => None,
        Source::Header(name) => {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let mut values = headers.get_all(name).iter();
            // Of two lines nobody knows which one the service believes.
            let value = values.next().filter(|value| !value.is_empty())?;
            values.next().is_none().then(|| tagged(OF_HEADER, value.as_bytes()))
        }
        Source::Authorization => {
            let value = headers.get(http::header::AUTHORIZATION)?;
            Some(tagged(OF_AUTHORIZATION, &digest_of(OF_AUTHORIZATION, &[value.as_bytes()])))
        }
        Source::MtlsSan => {
            let name = ctx.peer.identity()?.name()?;
            Some(tagged(OF_CERTIFICATE, name.as_bytes()))
        }
        Source::Nobody => Some(vec![NOBODY]),
    })
}

fn tagged(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut tagged = Vec::with_capacity(bytes.len() + 1);
    tagged.push(kind);
    tagged.extend_from_slice(bytes);
    tagged
}

fn principal(scope: &[u8]) -> Principal {
    let digest = digest_of(OF_HEADER, &[scope]);
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
    let mut parts: Vec<&[u8]> = vec![outbound.method().as_str().as_bytes(), target.as_bytes()];
    let body;
    if settings.fingerprint == Fingerprints::Full {
        for name in &keys.fingerprint_headers {
            for value in outbound.headers().get_all(name) {
                parts.push(name.as_str().as_bytes());
                parts.push(value.as_bytes());
            }
        }
        body = gathered.pieces.concat();
        parts.push(&body);
    }
    Ok(Fingerprint { version: RECIPE, digest: keys.digests.of(RECIPE, &parts) })
}
