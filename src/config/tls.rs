//! TLS on both sides: which files, and who is let in. Only paths are here; no key ever is.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Period;

/// TLS towards clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ListenerTls {
    /// The certificate with its intermediates, leaf first, in PEM.
    pub cert: Option<PathBuf>,
    /// Its private key in PEM, not encrypted.
    pub key: Option<PathBuf>,
    /// Several certificates instead of `cert` and `key`; each client gets that of the name it asks
    /// for, and the first where none fits.
    pub certificates: Vec<CertificateFiles>,
    /// The authorities of clients' certificates, in PEM; null = clients are not asked for one.
    pub client_ca: Option<PathBuf>,
    /// Refuse clients without a certificate; null = yes where there is a `client_ca`.
    pub require_client_cert: Option<bool>,
    /// The names that a client's certificate must have one of: a DNS name or a URI as it stands in
    /// it; `*.` in front is one more label, `*` at the end of a URI is any rest. Empty = any.
    pub client_names: Vec<String>,
    /// To finish a handshake, from the accepted connection.
    pub handshake_timeout: Period,
}

/// The files of one certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The certificate with its intermediates, leaf first, in PEM. Required.
    pub cert: PathBuf,
    /// Its private key in PEM, not encrypted. Required.
    pub key: PathBuf,
}

/// TLS towards an upstream. The endpoint's certificate is always verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamTls {
    /// The authorities that are believed, in PEM; null = the public ones, as built in.
    pub ca: Option<PathBuf>,
    /// The certificate that we show if asked, with its intermediates, in PEM.
    pub cert: Option<PathBuf>,
    /// Its private key in PEM, not encrypted.
    pub key: Option<PathBuf>,
    /// The name that the endpoint's certificate must be for; null = that of the endpoint.
    pub server_name: Option<String>,
}

impl Default for ListenerTls {
    fn default() -> Self {
        Self {
            cert: None,
            key: None,
            certificates: Vec::new(),
            client_ca: None,
            require_client_cert: None,
            client_names: Vec::new(),
            handshake_timeout: Period::from_secs(5),
        }
    }
}

impl ListenerTls {
    /// The certificates, however they are written, each with the path of the setting in front of
    /// its `cert` and `key`: empty, or `certificates[2].`.
    pub fn pairs(&self) -> Vec<(String, CertificateFiles)> {
        let short = self.cert.clone().zip(self.key.clone());
        let short = short.map(|(cert, key)| (String::new(), CertificateFiles { cert, key }));
        let list = self.certificates.iter().cloned().enumerate();
        short
            .into_iter()
            .chain(list.map(|(index, files)| (format!("certificates[{index}]."), files)))
            .collect()
    }

    /// Whether a client without a certificate is refused.
    #[must_use]
    pub fn requires_client_cert(&self) -> bool {
        self.client_ca.is_some() && self.require_client_cert != Some(false)
    }
}
