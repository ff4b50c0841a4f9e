//! The table of every metric: name, kind, labels and help. Nothing else gives a metric a name.

use prometheus::proto::MetricType;

/// What owns the numbers of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Route,
    Learned,
    Keyed,
    Store,
    Breaker,
    Upstream,
    Endpoint,
    Listener,
    Worker,
    Proxy,
    Process,
}

macro_rules! families {
    ($($scope:ident {
        $($name:ident = $kind:ident $text:literal [$($label:literal)*] $help:literal;)*
    })*) => {
        /// One metric: all samples of one name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Family { $($($name,)*)* }

        impl Family {
            /// Every metric, in the order of exposition.
            pub(super) const ALL: &'static [Self] = &[$($(Self::$name,)*)*];

            /// Its name.
            pub(super) const fn name(self) -> &'static str {
                match self { $($(Self::$name => $text,)*)* }
            }

            /// Whether it is a counter, a gauge or a histogram.
            pub(super) const fn kind(self) -> MetricType {
                match self { $($(Self::$name => MetricType::$kind,)*)* }
            }

            /// The names of its labels.
            pub(super) const fn labels(self) -> &'static [&'static str] {
                match self { $($(Self::$name => &[$($label,)*],)*)* }
            }

            /// What it means, for people.
            pub(super) const fn help(self) -> &'static str {
                match self { $($(Self::$name => $help,)*)* }
            }

            /// What owns its numbers.
            pub(super) const fn scope(self) -> Scope {
                match self { $($(Self::$name => Scope::$scope,)*)* }
            }
        }
    };
}

#[rustfmt::skip]
families! {
    Route {
        RouteRequests = COUNTER "outrigger_route_requests_total" ["route" "class"]
            "Requests that ended, by class of the status sent; none when no answer could be sent.";
        RouteReasons = COUNTER "outrigger_route_reasons_total" ["route" "reason"]
            "Answers that the proxy made itself, and answers that were cut off, by reason.";
        RouteDuration = HISTOGRAM "outrigger_route_request_duration_seconds" ["route"]
            "Time from a request's head to the last byte of its answer.";
        RouteCalls = COUNTER "outrigger_grpc_calls_total" ["route" "service" "method" "code"]
            "Calls of gRPC that ended, by status; of more than 64 methods the later are other.";
        RouteCallDuration = HISTOGRAM "outrigger_grpc_call_duration_seconds"
            ["route" "service" "method"]
            "Time from a gRPC call's head to its status.";
        RouteInFlight = GAUGE "outrigger_route_requests_in_flight" ["route"]
            "Requests that have not ended yet.";
        RouteRetries = COUNTER "outrigger_route_retries_total" ["route"]
            "Attempts beyond the first of a request.";
        RouteRetriesSuppressed = COUNTER "outrigger_route_retries_suppressed_total"
            ["route" "reason"]
            "Failed attempts that were not tried again although the policy names the failure.";
        RouteWouldAct = COUNTER "outrigger_route_would_act_total" ["route" "policy"]
            "Decisions on which a policy in observe mode would have acted.";
        RouteFallbacks = COUNTER "outrigger_route_fallbacks_total" ["route" "link"]
            "Failed requests by the link of the fallback chain that answered; none if none could.";
        RouteCacheEvents = COUNTER "outrigger_route_cache_events_total" ["route" "event"]
            "Answers kept for fallback, and what became of them.";
        RouteCacheBytes = GAUGE "outrigger_route_cache_bytes" ["route"]
            "Bytes of the answers that are kept for fallback.";
        RouteCacheAnswers = GAUGE "outrigger_route_cache_answers" ["route"]
            "Answers that are kept for fallback.";
        Hedges = COUNTER "outrigger_route_hedges_total" ["route" "result"]
            "Second copies of slow requests, by whether their answer was taken.";
        HedgesSuppressed = COUNTER "outrigger_route_hedges_suppressed_total" ["route" "reason"]
            "Slow requests of which no second copy was sent, by reason.";
        HedgeDelay = GAUGE "outrigger_route_hedge_delay_seconds" ["route"]
            "How long a first attempt may take before a copy is sent; absent while not known.";
        Mirrored = COUNTER "outrigger_mirror_requests_total" ["route" "result"]
            "Requests drawn for a copy: sent and its end, ok or failed, or why it was skipped.";
        TunnelsOpen = GAUGE "outrigger_route_tunnels" ["route"]
            "Upgraded connections and CONNECT tunnels that are open; absent where none ever was.";
        TunnelBytes = COUNTER "outrigger_route_tunnel_bytes_total" ["route" "direction"]
            "Bytes that passed through tunnels: up, from the client, or down, to it.";
        TunnelEnds = COUNTER "outrigger_route_tunnel_ends_total" ["route" "reason"]
            "Tunnels that ended: closed by both sides, or why they were broken off.";
        BulkheadPlaces = GAUGE "outrigger_route_bulkhead_limit" ["route"]
            "The most requests of the route that its bulkhead lets be in flight.";
        BulkheadInFlight = GAUGE "outrigger_route_bulkhead_in_flight" ["route"]
            "Requests that hold a place in the route's bulkhead.";
        BulkheadWaiting = GAUGE "outrigger_route_bulkhead_queue_length" ["route"]
            "Requests that wait for a place in the route's bulkhead.";
    }
    Learned {
        LearnedRate = GAUGE "outrigger_route_learned_rate" ["route"]
            "Requests a second that may be sent, as learned; absent while none is limited.";
        LearnedWaiting = GAUGE "outrigger_route_learned_rate_queue_length" ["route"]
            "Requests that wait for their turn under the learned rate.";
        LearnedThrottles = COUNTER "outrigger_route_throttled_total" ["route"]
            "Attempts that the upstream refused because it gets too many.";
    }
    Keyed {
        KeyedRequests = COUNTER "outrigger_idempotency_requests_total" ["route" "result" "reason"]
            "Requests of routes that recognise keys, by what their answers say of the key.";
        KeyedDoubts = COUNTER "outrigger_idempotency_unknown_total" ["route" "reason"]
            "Operations that may have been executed or not, by why that is not known.";
        KeyedLate = COUNTER "outrigger_idempotency_late_results_total" ["route"]
            "Answers that came when their client no longer waited, and were kept for its retry.";
    }
    Store {
        StoreReady = GAUGE "outrigger_store_ready" ["store"]
            "1 while the store of records can be used.";
        StoreEntries = GAUGE "outrigger_store_records" ["store" "state"]
            "Records by state, where the store counts them.";
        StoreBytes = GAUGE "outrigger_store_bytes" ["store"]
            "Bytes of the records, where the store counts them.";
        StoreDuration = HISTOGRAM "outrigger_store_operation_duration_seconds"
            ["store" "operation"]
            "Time that the store took to answer, or to fail.";
        StoreErrors = COUNTER "outrigger_store_errors_total" ["store" "operation" "kind"]
            "Operations of which it is not known, or known not, that they were done; by cause.";
        StoreFenced = COUNTER "outrigger_store_fenced_total" ["store" "operation"]
            "Changes that were refused because the record had another claimant by then.";
        StoreWords = COUNTER "outrigger_store_settled_by_hand_total" ["store" "as"]
            "Records that an operator or a probe has settled, or an operator removed.";
        StoreLeasesLost = COUNTER "outrigger_store_leases_lost_total" ["store"]
            "Leases that ended while their owner was at work.";
        StoreSpooled = GAUGE "outrigger_store_spooled_results" ["store"]
            "Results that could not be committed yet.";
        StoreOwn = COUNTER "outrigger_store_events_total" ["store" "event"]
            "What the store did of itself: answers shed, records whose time was over, and so on.";
    }
    Breaker {
        BreakerState = GAUGE "outrigger_breaker_state" ["route" "upstream"]
            "State of the circuit: 0 closed, 1 open, 2 half open, 3 ramping, 4 isolated.";
        BreakerTransitions = COUNTER "outrigger_breaker_transitions_total" ["route" "upstream" "to"]
            "Changes of the circuit's state, by the state entered.";
    }
    Upstream {
        UpstreamAttempts = COUNTER "outrigger_upstream_attempts_total" ["upstream" "result"]
            "Attempts that ended, by class of the upstream's status or by kind of failure.";
        UpstreamDuration = HISTOGRAM "outrigger_upstream_attempt_duration_seconds" ["upstream"]
            "Time from an attempt's start to the head of the upstream's answer or to the failure.";
        UpstreamInFlight = GAUGE "outrigger_upstream_attempts_in_flight" ["upstream"]
            "Attempts that have not ended yet.";
        UpstreamConnections = GAUGE "outrigger_upstream_connections" ["upstream"]
            "Open connections to the upstream.";
        UpstreamConnectionsOpened = COUNTER "outrigger_upstream_connections_opened_total"
            ["upstream"]
            "Connections that were made to the upstream.";
        UpstreamConnectionLimit = GAUGE "outrigger_upstream_connection_limit" ["upstream"]
            "The most connections to the upstream that may be open.";
        UpstreamRetryBudget = GAUGE "outrigger_upstream_retry_budget_balance" ["upstream"]
            "Retries that the budget would pay for now.";
        UpstreamEndpoints = GAUGE "outrigger_upstream_endpoints" ["upstream" "state"]
            "Endpoints of the upstream, by whether they can be chosen.";
        UpstreamEjections = COUNTER "outrigger_upstream_ejections_total" ["upstream"]
            "Endpoints that were taken out of the choice because they failed.";
        UpstreamWouldEject = COUNTER "outrigger_upstream_would_eject_total" ["upstream"]
            "Ejections that the policy in observe mode would have made.";
        UpstreamHandshakes = COUNTER "outrigger_upstream_tls_handshakes_total"
            ["upstream" "result"]
            "TLS handshakes with endpoints: full, resumed, or why there is no connection.";
        LimitPlaces = GAUGE "outrigger_upstream_concurrency_limit" ["upstream"]
            "The most requests that the adaptive limit lets be in flight.";
        LimitInFlight = GAUGE "outrigger_upstream_concurrency_in_flight" ["upstream"]
            "Requests that hold a place under the adaptive limit.";
        LimitWaiting = GAUGE "outrigger_upstream_queue_length" ["upstream"]
            "Requests that wait for a place under the adaptive limit.";
        LimitBaseline = GAUGE "outrigger_upstream_baseline_seconds" ["upstream"]
            "Time to the head of an answer while nothing queues, of the recent mix of routes.";
        LimitRatio = GAUGE "outrigger_upstream_latency_ratio" ["upstream"]
            "Latency in the last round at the limit, as a multiple of the baselines.";
        LimitPressure = GAUGE "outrigger_upstream_refused_share" ["upstream"]
            "Share of the requests that found no free place which was refused lately, 0 to 1.";
        LimitThreshold = GAUGE "outrigger_upstream_shed_threshold" ["upstream"]
            "Levels that are refused at once, from the bottom; each tier has 128. 0 = none.";
    }
    Endpoint {
        EndpointAttempts = COUNTER "outrigger_endpoint_attempts_total"
            ["upstream" "endpoint" "result"]
            "Attempts that ended, by whether they count against the endpoint.";
        EndpointDuration = HISTOGRAM "outrigger_endpoint_attempt_duration_seconds"
            ["upstream" "endpoint"]
            "Time from an attempt's start to the head of the endpoint's answer or to the failure.";
        EndpointInFlight = GAUGE "outrigger_endpoint_attempts_in_flight" ["upstream" "endpoint"]
            "Attempts that have not ended yet.";
        EndpointEjected = GAUGE "outrigger_endpoint_ejected" ["upstream" "endpoint"]
            "1 while the endpoint is ejected for its failures.";
        EndpointHealthy = GAUGE "outrigger_endpoint_healthy" ["upstream" "endpoint"]
            "1 while the endpoint passes its health checks or has none.";
        EndpointEwma = GAUGE "outrigger_endpoint_latency_ewma_seconds" ["upstream" "endpoint"]
            "The moving average of latency by which endpoints are chosen.";
    }
    Listener {
        ListenerConnections = GAUGE "outrigger_listener_connections" ["listener"]
            "Open connections from clients.";
        ListenerConnectionsAccepted = COUNTER "outrigger_listener_connections_accepted_total"
            ["listener"]
            "Connections that were accepted.";
        ListenerConnectionLimit = GAUGE "outrigger_listener_connection_limit" ["listener"]
            "The most connections from clients that may be open.";
        ListenerReasons = COUNTER "outrigger_listener_reasons_total" ["listener" "reason"]
            "Requests that were answered before a route was chosen, by reason.";
        ListenerFloods = COUNTER "outrigger_listener_floods_total" ["listener" "kind"]
            "Connections over HTTP/2 that were ended for too many frames of a kind in a second.";
        ListenerHandshakes = COUNTER "outrigger_listener_tls_handshakes_total"
            ["listener" "result"]
            "TLS handshakes with clients: full, resumed, or why there is no connection.";
        ListenerProxyHeaders = COUNTER "outrigger_listener_proxy_headers_total"
            ["listener" "result"]
            "Headers of the PROXY protocol by version, or why the connection was refused.";
    }
    Worker {
        WorkerBusy = COUNTER "outrigger_worker_busy_seconds_total" ["worker"]
            "Time for which the worker ran tasks instead of waiting for events.";
        WorkerConnections = GAUGE "outrigger_worker_connections" ["worker"]
            "Open connections from clients that the worker serves.";
        WorkerDelay = GAUGE "outrigger_worker_event_loop_delay_seconds" ["worker"]
            "How late the worker's last timer fired.";
    }
    Proxy {
        Reloads = COUNTER "outrigger_config_reloads_total" ["result"]
            "Times that the configuration was read again, by what came of it.";
        ConfigGeneration = GAUGE "outrigger_config_generation" []
            "How many configurations were put into force since the start.";
        ConfigApplied = GAUGE "outrigger_config_last_applied_timestamp_seconds" []
            "When the configuration in force was put into force, in Unix time.";
        ConfigHash = GAUGE "outrigger_config_info" ["hash"]
            "Always 1; the label is the hash of the configuration in force.";
        AccessLogDropped = COUNTER "outrigger_access_log_dropped_total" []
            "Lines of the access log that were lost, because they could not be written in time.";
        TlsSwaps = COUNTER "outrigger_tls_file_changes_total" ["result"]
            "Changes of certificates, keys and authorities on disk, by whether they were taken.";
        TlsRefused = GAUGE "outrigger_tls_files_refused" ["side" "name"]
            "1 while the files of a listener or upstream have a fault and earlier ones are in use.";
        TlsExpiry = GAUGE "outrigger_tls_certificate_expires_seconds" ["side" "name" "file"]
            "Time until a certificate in use, or one that vouches for it in the file, expires.";
        ProtectionPressure = GAUGE "outrigger_protection_pressure" ["resource"]
            "Shortness of the proxy itself, 0 none to 1 all refused; that of the worst worker.";
        ProtectionUsage = GAUGE "outrigger_protection_usage_ratio" ["resource"]
            "Share in use of what there is of the resource for the proxy; none where not known.";
        KeptBodies = GAUGE "outrigger_kept_body_bytes" []
            "Bytes of request bodies that are kept for another attempt or a copy.";
        KeptBodiesLimit = GAUGE "outrigger_kept_body_limit_bytes" []
            "The most bytes of request bodies that are kept at once; beyond, none is tried again.";
        Build = GAUGE "outrigger_build_info" ["version"]
            "Always 1; the label is the version of the proxy.";
    }
    Process {
        ProcessCpu = COUNTER "process_cpu_seconds_total" []
            "Processor time spent by the process, user and system.";
        ProcessResident = GAUGE "process_resident_memory_bytes" []
            "Memory of the process that is resident.";
        ProcessVirtual = GAUGE "process_virtual_memory_bytes" []
            "Address space of the process.";
        ProcessFds = GAUGE "process_open_fds" []
            "Open file descriptors.";
        ProcessMaxFds = GAUGE "process_max_fds" []
            "The most file descriptors that may be open.";
        ProcessThreads = GAUGE "process_threads" []
            "Threads of the process.";
        ProcessStart = GAUGE "process_start_time_seconds" []
            "When the process started, in Unix time.";
    }
}
