//! The names of every header field that we define, or that `http` has no constant for.

use http::HeaderName;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub static $name: HeaderName = HeaderName::from_static($text);)*
    };
}

/// What all fields of our own begin with.
pub const OWN_PREFIX: &str = "x-outrigger-";

names! {
    /// On every answer that the proxy itself makes: why ([`crate::telemetry::reason::Reason`]).
    REASON = "x-outrigger-reason";
    /// On answers that a proxy gave instead of sending the request on: nothing was executed, and
    /// the endpoint is not at fault.
    SHED = "x-outrigger-shed";
    /// On failures that a proxy passes on after its own retries: those of the caller's proxy would
    /// multiply them.
    TRIED = "x-outrigger-tried";
    /// On answers of an application: what became of an operation under a key. Not passed on.
    OUTCOME = "idempotency-outcome";
    /// On an answer that a link of the fallback chain made: which one.
    FALLBACK = "x-outrigger-fallback";
    /// What a cache had to do with an answer (RFC 9211).
    CACHE_STATUS = "cache-status";
    /// `1` on a copy of a request, sent beside it to another upstream.
    MIRROR = "x-outrigger-mirror";
    /// How often the request was sent before; absent on the first attempt.
    RETRY_ATTEMPT = "x-retry-attempt";
    /// The same, as gRPC spells it (gRFC A6).
    GRPC_PREVIOUS_ATTEMPTS = "grpc-previous-rpc-attempts";
    /// How much time the caller has left, in whole milliseconds.
    REQUEST_TIMEOUT_MS = "x-request-timeout-ms";
    /// The same, as Envoy spells it.
    ENVOY_EXPECTED_TIMEOUT_MS = "x-envoy-expected-rq-timeout-ms";
    /// The same, as gRPC spells it: a number of at most eight digits and a unit.
    GRPC_TIMEOUT = "grpc-timeout";
    /// The tier of importance that the caller asks for.
    PRIORITY = "x-priority";
    /// How near the upstream is to its limit, 1 to 3, so that it can leave out optional work.
    BROWNOUT = "x-brownout";
    /// The identifier that a request carries through a chain of services.
    REQUEST_ID = "x-request-id";
    /// A gRPC call's status code.
    GRPC_STATUS = "grpc-status";
    /// A gRPC call's status message, percent-encoded.
    GRPC_MESSAGE = "grpc-message";
    /// How long a gRPC client is to wait before it tries again, in milliseconds (gRFC A6).
    GRPC_PUSHBACK_MS = "grpc-retry-pushback-ms";
    /// A gRPC call's error in full, as a `google.rpc.Status` in base64.
    GRPC_STATUS_DETAILS = "grpc-status-details-bin";
    /// What a proxy on the way has to say of an answer (RFC 9209).
    PROXY_STATUS = "proxy-status";
    /// The addresses that a request came from, the nearest last.
    X_FORWARDED_FOR = "x-forwarded-for";
    /// The scheme that the first client used.
    X_FORWARDED_PROTO = "x-forwarded-proto";
    /// The host that the first client asked for.
    X_FORWARDED_HOST = "x-forwarded-host";
    /// What a limiter has left (IETF draft `ratelimit-headers`).
    RATE_LIMIT = "ratelimit";
    /// What a limiter allows (IETF draft `ratelimit-headers`).
    RATE_LIMIT_POLICY = "ratelimit-policy";
}
