//! Who a verified certificate says that it is.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::{unix_seconds, validity};

/// The most names that are kept of one certificate; those of services have a handful.
const MAX_NAMES: usize = 100;

/// What names a workload by SPIFFE (SPIFFE-ID, 2).
const SPIFFE: &str = "spiffe://";

/// A client that has proved to have the key of a certificate that one of our authorities vouches
/// for: the names that the certificate has as alternatives of its subject (RFC 5280, 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    uris: Vec<Box<str>>,
    dns: Vec<Box<str>>,
    not_after: Option<i64>,
}

impl Identity {
    /// The identity in a certificate that has been verified.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Self {
        let parsed = EndEntityCert::try_from(certificate);
        let (mut uris, mut dns) = (Vec::new(), Vec::new());
        if let Ok(parsed) = parsed {
            uris.extend(parsed.valid_uri_names().take(MAX_NAMES).map(Box::from));
            let lower = |name: &str| name.to_ascii_lowercase().into_boxed_str();
            dns.extend(parsed.valid_dns_names().take(MAX_NAMES).map(lower));
        }
        Self { uris, dns, not_after: validity::not_after(certificate) }
    }

    /// The one name to know it by: its SPIFFE identifier, else its first URI, else its first DNS
    /// name; nothing when it has none of them.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        let spiffe = self.uris.iter().find(|uri| uri.starts_with(SPIFFE));
        spiffe.or(self.uris.first()).or(self.dns.first()).map(|name| &**name)
    }

    /// Every name: URIs as they are written, then DNS names in lower case, each in the order of the
    /// certificate. At most 200.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.uris.iter().chain(&self.dns).map(|name| &**name)
    }

    /// Whether the certificate's time is over. Asked for resumed sessions too, which rustls does
    /// not verify again.
    pub(super) fn expired(&self, now: SystemTime) -> bool {
        self.not_after.is_some_and(|end| unix_seconds(now) > end)
    }
}

#[cfg(test)]
mod tests;
