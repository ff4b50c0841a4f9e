//! The proxy as its users meet it: the real one, in this process, between real sockets.
//!
//! One binary, so that it is linked once; one module a behaviour. A test reads as sentences:
//! an upstream that answers so, a proxy configured so, a client that does so.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what fails in a scene fails its test"
)]

mod support;

mod balancing;
mod bodies;
mod breaker;
mod cancel;
mod chains;
mod coalescing;
mod connect;
mod connection_limits;
mod egress;
mod ejection;
mod fallback;
mod framing;
mod grpc;
mod grpc_clients;
mod head_limits;
mod header_trust;
mod hedge;
mod http2;
mod idempotency;
mod interim;
mod kept_answers;
mod key_probe;
mod local_answers;
mod mirror;
mod names;
mod operator_records;
mod overload;
mod passes_through;
mod pool;
mod process;
mod protection;
mod protocols;
mod proxy_protocol;
mod proxy_protocol_chain;
mod rate_limit;
mod real_clients;
mod records;
mod redirection;
mod reload;
mod retry;
mod retry_limits;
mod rewriting;
mod routing;
mod slow_reader;
mod smuggling;
mod timeouts;
mod tls;
mod tls_files;
mod tls_upstream;
mod tunnel_clients;
mod tunnel_log;
mod tunnels;
mod unix_sockets;
mod upgrade;
mod upstream_http2;
