//! The numbers of TLS: how handshakes ended on either side, and how the files fare.

use std::sync::Mutex;

use super::cell::Counter;
use super::children::count;
use super::family::Family;
use super::locked;
use super::samples::Samples;

macro_rules! results {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$of])* $variant,)* }

        impl $name {
            /// Every end, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The spelling in labels and logs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

results! {
    /// How a client's handshake ended.
    HandshakeIn {
        /// Done in full.
        Full = "full",
        /// Done by resuming an earlier session.
        Resumed = "resumed",
        /// Not done in time.
        Timeout = "timeout",
        /// Given up for a newer one, because as many went on as may.
        Crowded = "crowded",
        /// Given up because the process ends, or is short of what connections cost.
        Closing = "closing",
        /// The client went away in its middle.
        Closed = "closed",
        /// The first bytes are not TLS.
        NotTls = "not_tls",
        /// No version, suite or protocol that both speak.
        Incompatible = "incompatible",
        /// The client has no certificate, and needs one.
        NoCertificate = "no_certificate",
        /// The client's certificate has expired.
        ExpiredCertificate = "expired_certificate",
        /// The client's certificate comes from an authority that is not believed.
        UnknownIssuer = "unknown_issuer",
        /// The client's certificate is invalid in another way.
        BadCertificate = "bad_certificate",
        /// The client's certificate has none of the names that are let in.
        NameNotAllowed = "name_not_allowed",
        /// The client refused us, with an alert.
        Refused = "refused",
        /// Anything else against the protocol.
        Protocol = "protocol",
    }
}

results! {
    /// How a handshake with an endpoint ended.
    HandshakeOut {
        /// Done in full.
        Full = "full",
        /// Done by resuming an earlier session.
        Resumed = "resumed",
        /// The endpoint went away in its middle.
        Closed = "closed",
        /// The first bytes are not TLS.
        NotTls = "not_tls",
        /// No version, suite or protocol that both speak.
        Incompatible = "incompatible",
        /// The endpoint's certificate has expired, or is not valid yet.
        ExpiredCertificate = "expired_certificate",
        /// The endpoint's certificate comes from an authority that is not believed.
        UnknownIssuer = "unknown_issuer",
        /// The endpoint's certificate is for another name.
        WrongName = "wrong_name",
        /// The endpoint's certificate is invalid in another way.
        BadCertificate = "bad_certificate",
        /// The endpoint refused us, with an alert: as a rule it wants another certificate of ours.
        Refused = "refused",
        /// Anything else against the protocol.
        Protocol = "protocol",
    }
}

/// How often each end came.
#[derive(Debug)]
pub struct Handshakes<const N: usize>([Counter; N]);

/// Handshakes with clients.
pub type HandshakesIn = Handshakes<{ HandshakeIn::ALL.len() }>;
/// Handshakes with endpoints.
pub type HandshakesOut = Handshakes<{ HandshakeOut::ALL.len() }>;

impl<const N: usize> Default for Handshakes<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl HandshakesIn {
    /// Counts an end.
    pub fn count(&self, end: HandshakeIn) {
        count(&self.0, end as usize);
    }

    pub(super) fn emit(&self, owner: &[&str], samples: &mut Samples) {
        for (counter, end) in self.0.iter().zip(HandshakeIn::ALL) {
            samples.occurred(owner, end.as_str(), counter.get());
        }
    }
}

impl HandshakesOut {
    /// Counts an end.
    pub fn count(&self, end: HandshakeOut) {
        count(&self.0, end as usize);
    }

    pub(super) fn emit(&self, owner: &[&str], samples: &mut Samples) {
        for (counter, end) in self.0.iter().zip(HandshakeOut::ALL) {
            samples.occurred(owner, end.as_str(), counter.get());
        }
    }
}

/// One certificate that we show, as a scrape sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Expiry {
    /// `listener` or `upstream`.
    pub side: &'static str,
    /// The name of that listener or upstream.
    pub name: String,
    /// The file.
    pub file: String,
    /// Seconds until it expires; negative when it has.
    pub seconds: f64,
}

/// The files of TLS, of the whole process.
#[derive(Debug, Default)]
pub struct TlsFiles {
    applied: Counter,
    rejected: Counter,
    shown: Mutex<Shown>,
}

/// What only time changes, as it was shown last.
#[derive(Debug, Default)]
struct Shown {
    expiries: Vec<Expiry>,
    refused: Vec<Refused>,
}

/// The side and name of a user of files, and whether the files that are there now are refused.
pub type Refused = (&'static str, String, bool);

impl TlsFiles {
    /// Counts that changed files were taken, or refused.
    pub fn swapped(&self, applied: bool) {
        if applied { self.applied.inc() } else { self.rejected.inc() }
    }

    /// Shows how long each certificate is still good, and whose files are refused.
    pub fn show(&self, expiries: Vec<Expiry>, refused: Vec<Refused>) {
        *locked(&self.shown) = Shown { expiries, refused };
    }

    pub(super) fn emit(&self, samples: &mut Samples) {
        let shown = locked(&self.shown);
        match samples.family() {
            Family::TlsSwaps => {
                samples.counter(&[], Some("applied"), self.applied.get() as f64);
                samples.counter(&[], Some("rejected"), self.rejected.get() as f64);
            }
            Family::TlsExpiry => {
                for Expiry { side, name, file, seconds } in &shown.expiries {
                    samples.gauge(&[side, name, file], None, *seconds);
                }
            }
            Family::TlsRefused => {
                for (side, name, refused) in &shown.refused {
                    samples.gauge(&[side, name], None, f64::from(u8::from(*refused)));
                }
            }
            _ => {}
        }
    }
}
