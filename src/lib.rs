//! Outrigger: a sidecar proxy that keeps a service upright when what it calls, or what calls it,
//! fails. README says how to use it; this is the tour of how it is built.
//!
//! # Floors
//!
//! A module sees only floors below its own; `tests/tidy.rs` enforces it, and the crates that each
//! floor may name.
//!
//! | floor | module | what it is |
//! |---|---|---|
//! | 9 | [`app`], [`control`], [`check`], the commands | puts all together, starts and ends it |
//! | 8 | [`server`], [`admin`], [`watch`], [`protect`] | sockets, operator, file, shortages |
//! | 7 | [`proxy`] | the data path: the way of a request |
//! | 6 | [`snapshot`] | the compiled configuration: matcher, routes, circuits |
//! | 5 | [`upstream`] | endpoints, connections, names, health |
//! | 5 | [`records`] | what is kept of requests with an Idempotency-Key |
//! | 4 | [`http1`], [`gate`] | HTTP/1 messages on the wire; places in use and who waits for one |
//! | 4 | [`tls`] | certificates and keys, handshakes, who the other side is |
//! | 3 | [`clock`], [`telemetry`], [`shared`] | time, numbers and logs, a mutex for machines |
//! | 3 | [`failpoint`] | where a build for tests can be made to die |
//! | 2 | [`config`] | the YAML file: reading, rules, schema |
//! | 1 | [`policy`] | every decision, pure: no clock, chance, lock or I/O |
//! | 1 | [`proxy_protocol`] | the header that says whom a connection is made for |
//! | 0 | [`units`] | lengths of time, sizes, shares, rates |
//!
//! # The way of a request
//!
//! A client's connection is one task: over HTTP/1 it reads heads strictly ([`http1`]), and lets the
//! body be read from the socket by whoever sends it on; over HTTP/2 it is the `hyper` crate's,
//! and its frames are counted on their way there.
//! [`proxy::pipeline::handle`] is the file to read first, from the top down. It checks the head,
//! finds the route ([`snapshot::matcher`]), sets the deadline, passes [`proxy::admission`], draws
//! an upstream, and then loops: one attempt ([`proxy::attempt::run`]), then
//! [`policy::retry::decide`] and the retry budget. An attempt asks the circuit, lets the upstream
//! choose an endpoint, and sends on a pooled connection ([`upstream::pool`]): over HTTP/1 polled
//! by the request's own task ([`upstream::http1`]), over HTTP/2 shared with others. Its end
//! becomes one [`policy::outcome::Outcome`], from which circuit, endpoint and metrics all learn.
//! The answer's body ([`proxy::body::Exchange`]) holds the connection, the endpoint's count and the
//! request's [`proxy::context::Context`] until its last byte; whatever becomes of a request, the
//! context counts and logs it once. An answer that opens a tunnel ([`proxy::tunnel`]) hands both
//! streams over, and the server joins them. Every refusal becomes an answer in
//! [`proxy::error::Refusal::answer`] alone.
//!
//! # Threads
//!
//! - **Workers** ([`server::thread`]), one for each CPU: a single-threaded runtime with its own
//!   connections to clients and to upstreams, TLS handshakes included ([`server::handshake`]). A
//!   request stays on its worker to its end.
//! - **Accept** ([`server::accept`]): one thread for all listeners; a new connection goes to the
//!   worker with the fewest, and waits in the kernel while the listener is at its limit.
//! - **Control** ([`control`]): the operator's listener, DNS, health checks, the watch over the
//!   file and over the process's own memory and descriptors ([`protect`]). Nothing here can delay
//!   a request.
//!
//! Workers share what must be one: circuits, budgets, rate limits, what is known of endpoints, the
//! count of an upstream's connections, and metrics. Each is atomics, or [`shared::Shared`] around a
//! pure machine, locked for one step and never over an await. Everything else is a worker's own.
//!
//! # Reload
//!
//! [`proxy::Proxy::reload`] reads, checks and compiles a whole new [`snapshot::Snapshot`] and swaps
//! one pointer, or changes nothing. Compiling takes the state of the snapshot before it, by name:
//! state never holds a setting, and settings come along with each question, so the same circuit
//! simply hears other thresholds. A request holds its route, not the snapshot, and ends as it
//! began.
//!
//! # A new policy, in five steps
//!
//! 1. `policy/x.rs`: `Settings` with defaults, the state, and methods that take
//!    `(&settings, .., now, random)` and return facts. Unit and property tests beside it.
//! 2. Its key in [`config::route`] or [`config::upstream`], its rules in [`config::validate`].
//! 3. Its state in [`snapshot`] (of a route) or [`upstream`] (of endpoints), taken over by name.
//! 4. Its question at its one place in [`proxy::pipeline`], [`proxy::admission`] or
//!    [`proxy::attempt`]; a guard that gives back on drop what was taken; `observe` counts a
//!    [`telemetry::metrics::Would`] instead of acting.
//! 5. Its [`telemetry::reason::Reason`] if it refuses, its metrics, its line in README's tables (a
//!    test asks for them), and a test through the whole proxy.
//!
//! # What always holds
//!
//! - Time, chance and I/O are arguments of policies; only [`clock`] reads the clock.
//! - Whatever is taken is given back on drop, and every await can be cancelled.
//! - Everything that can grow has a bound.
//! - An attempt is classified once, and nobody learns from a fault that is ours or the client's.
//! - A trial of a circuit is never retried, and no retry goes unpaid.
//! - An answer that has begun is never retried; one that is cut off looks cut off.
//! - A setting that does nothing is an error, and so is a file that is half right.
//! - An upstream under TLS is verified, and a connection is used under the settings it was opened
//!   under alone.
//! - No secret is printed; of headers, the log has the host and the request's identifier alone.

pub mod admin;
pub mod app;
pub mod check;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod explain;
pub mod failpoint;
pub mod gate;
pub mod http1;
pub mod policy;
pub mod protect;
pub mod proxy;
pub mod proxy_protocol;
pub mod records;
pub mod server;
pub mod shared;
pub mod snapshot;
pub mod telemetry;
pub mod tls;
pub mod units;
pub mod upstream;
pub mod watch;
