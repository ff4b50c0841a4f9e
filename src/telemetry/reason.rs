//! Why a request ended otherwise than by the upstream's own answer: one closed vocabulary, spelled
//! alike in the `x-outrigger-reason` header, the `reason` label, the log field and README's table.

/// Declares the enum with its spelling, its status and the sentence for operators, in one table.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $title:literal;)*) => {
        /// Why the proxy itself answered, or why an answer was cut off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $(#[doc = $title] $name,)* }

        impl Reason {
            /// Every reason, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The spelling in headers, labels and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status of the answer; 0 where no answer can be made any more.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// What happened, in a sentence for people.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

reasons! {
    BadRequest = "bad_request", 400, "The request is not valid HTTP for this proxy";
    TunnelRefused = "tunnel_refused", 403, "No route allows a tunnel to this destination";
    NoRoute = "no_route", 404, "No route matches the request";
    RequestTimeout = "request_timeout", 408, "The client did not send the request in time";
    KeyMissing = "idempotency_key_missing", 400,
        "The route takes requests with an idempotency key alone";
    KeyInvalid = "idempotency_key_invalid", 400, "The idempotency key cannot be read";
    ScopeMissing = "idempotency_scope_missing", 400,
        "Nothing in the request says whose the idempotency key is";
    KeyInProgress = "idempotency_in_progress", 409,
        "A request with the same idempotency key is being worked on";
    OutcomeUnknown = "idempotency_outcome_unknown", 409,
        "What became of the first request with the idempotency key is not known";
    ResultUnavailable = "idempotency_result_unavailable", 409,
        "The request was executed before, and its answer is not kept any more";
    KeyExpired = "idempotency_key_expired", 409,
        "The idempotency key is older than what the store can remember";
    NoOriginalDestination = "no_original_destination", 421,
        "The route needs an original destination, and the connection was not redirected here";
    BodyTooLarge = "body_too_large", 413, "The request's body is larger than the listener allows";
    KeyReused = "idempotency_key_reused", 422,
        "The idempotency key belongs to a different request";
    HeadersTooLarge = "headers_too_large", 431,
        "The request's head is larger than the listener allows";
    RateLimited = "rate_limited", 429, "The route's rate limit is reached";
    KeyQuota = "idempotency_quota", 429,
        "The caller has its whole share of the store of idempotency records";
    NotSupported = "not_supported", 501, "The method cannot be proxied by this version";
    ConnectFailure = "connect_failure", 502, "No connection to the upstream could be made";
    TlsFailure = "tls_failure", 502,
        "The TLS handshake failed: the upstream's certificate or ours was not accepted";
    UpstreamRefused = "upstream_refused", 502, "The upstream refused the request unprocessed";
    UpstreamReset = "upstream_reset", 502, "The upstream closed the connection before it answered";
    CircuitOpen = "circuit_open", 503, "The circuit to the upstream is open";
    NoEndpoint = "no_endpoint", 503, "The upstream has no endpoint that can be chosen";
    ConnectionLimit = "connection_limit", 503, "The upstream's connection limit is reached";
    Shed = "shed", 503, "The upstream is overloaded, and more important requests come first";
    ConcurrencyLimit = "concurrency_limit", 503,
        "The upstream has as much work as it can take, and the queue is full";
    QueueTimeout = "queue_timeout", 503, "The request waited for a place as long as it may";
    BulkheadFull = "bulkhead_full", 503, "The route has as many requests in flight as it may";
    SelfProtection = "self_protection", 503, "The proxy itself is short of memory, files or time";
    StoreUnavailable = "idempotency_store_unavailable", 503,
        "The store of idempotency records cannot be reached";
    StoreFull = "idempotency_store_full", 503, "The store of idempotency records is full";
    ConnectTimeout = "connect_timeout", 504, "No connection to the upstream was made in time";
    PerTryTimeout = "per_try_timeout", 504, "The upstream did not answer the attempt in time";
    Deadline = "deadline", 504, "The request's total time or its caller's deadline has passed";
    Loop = "loop", 508, "The proxy's own traffic was redirected back to it";
    UpstreamCut = "upstream_cut", 0, "The upstream broke off in the middle of its answer";
    BodyDeadline = "body_deadline", 0,
        "The request's total time passed in the middle of the answer";
    BodyIdle = "body_idle", 0, "No byte of the answer moved for the idle timeout";
    TunnelIdle = "tunnel_idle", 0, "No byte moved through the tunnel for the idle timeout";
    TunnelDrained = "tunnel_drained", 0, "The proxy ended while the tunnel was open";
    ClientGone = "client_gone", 0, "The client went away before the answer was whole";
}

impl Reason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The place of this reason in [`Reason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}
