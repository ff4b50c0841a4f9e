//! Certificates, keys and authorities from their PEM files (RFC 7468).
//!
//! What is wrong is said of the setting that names the file. Of the content nothing is ever quoted:
//! a key may stand where a certificate is expected.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use webpki::EndEntityCert;

use super::{provider, validity};
use crate::config::suggest::nearest;
use crate::config::tls::CertificateFiles;

/// The largest file that is read: a system's whole bundle of authorities is a quarter of it.
const MAX_FILE: u64 = 1 << 20;

/// What is wrong with a file, and which setting names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The setting below `tls`, such as `certificates[1].key`.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The file that was probably meant.
    pub suggestion: Option<String>,
}

impl Fault {
    fn new(key: &str, message: impl Into<String>) -> Self {
        Self { key: key.to_owned(), message: message.into(), suggestion: None }
    }
}

/// A certificate that we show, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its file.
    pub file: PathBuf,
    /// The DNS names that it is for.
    pub names: Vec<String>,
    /// When it, or the first of those that vouch for it in the file, expires, in Unix seconds.
    pub not_after: i64,
}

/// The files as they are at one time: each is read once, whoever asks.
#[derive(Default)]
pub struct Disk {
    read: RefCell<HashMap<PathBuf, Content>>,
}

/// What a file holds, or why it cannot be read, with the file that was probably meant.
type Content = Result<Arc<[u8]>, (String, Option<String>)>;

impl Disk {
    fn read(&self, path: &Path) -> Content {
        let mut read = self.read.borrow_mut();
        read.entry(path.to_owned()).or_insert_with(|| content(path)).clone()
    }

    /// What tells these files' contents from others, to this process.
    pub(super) fn fingerprint<'p>(&self, files: impl IntoIterator<Item = &'p Path>) -> u64 {
        let mut hasher = DefaultHasher::new();
        for file in files {
            self.read(file).map_err(|(message, _)| message).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn of_key(&self, key: &str, path: &Path) -> Result<Arc<[u8]>, Fault> {
        self.read(path).map_err(|(why, suggestion)| {
            let message = format!("cannot read `{}`: {why}", path.display());
            Fault { key: key.to_owned(), message, suggestion }
        })
    }
}

fn content(path: &Path) -> Content {
    let why = |error: std::io::Error| {
        let meant = (error.kind() == ErrorKind::NotFound).then(|| meant(path)).flatten();
        (error.to_string(), meant)
    };
    let meta = fs::metadata(path).map_err(why)?;
    // Opening a pipe would wait for its writer.
    if !meta.is_file() {
        return Err(("it is not a regular file".to_owned(), None));
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(why)?;
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(why)?;
    if content.len() as u64 > MAX_FILE {
        return Err((format!("it is larger than {} MiB", MAX_FILE >> 20), None));
    }
    Ok(content.into())
}

/// A file beside it whose name is nearly the same.
fn meant(path: &Path) -> Option<String> {
    let (folder, name) = (path.parent()?, path.file_name()?.to_str()?);
    let entries = fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let names = entries.ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: Vec<String> = names.collect();
    let near = nearest(name, names.iter().map(String::as_str))?;
    Some(folder.join(near).display().to_string())
}

/// A certificate with its key, and what operators see of it.
type Certificate = (Arc<CertifiedKey>, Shown);

/// Reads a certificate and its key; `under` is in front of the settings' names.
pub(super) fn certificate(
    disk: &Disk,
    under: &str,
    files: &CertificateFiles,
) -> Result<Certificate, Vec<Fault>> {
    let cert_key = format!("{under}cert");
    let key_key = format!("{under}key");
    let chain = disk.of_key(&cert_key, &files.cert).and_then(|pem| chain(&cert_key, &pem));
    let key = disk.of_key(&key_key, &files.key).and_then(|pem| private_key(&key_key, &pem));
    let (chain, key) = match (chain, key) {
        (Ok(chain), Ok(key)) => (chain, key),
        (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
    };
    let fault = |key: &str, message: String| vec![Fault::new(key, message)];
    let key = provider().key_provider.load_private_key(key).map_err(|_| {
        let kinds = "RSA of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519";
        fault(&key_key, format!("has a private key of a kind that is not supported; use {kinds}"))
    })?;
    let shown = shown(&files.cert, &chain)
        .ok_or_else(|| fault(&cert_key, "has a certificate that is not X.509".to_owned()))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            let cert = files.cert.display();
            Err(fault(&key_key, format!("is not the private key of the certificate in `{cert}`")))
        }
        // That a kind of key cannot tell is no fault of the files.
        _ => Ok((Arc::new(certified), shown)),
    }
}

fn chain(key: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match chain {
        Err(_) => Err(Fault::new(key, "is not PEM: a section of it is broken")),
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) if PrivateKeyDer::from_pem_slice(pem).is_ok() => {
            Err(Fault::new(key, "is a private key; are the certificate and its key swapped?"))
        }
        Ok(_) => Err(Fault::new(key, "has no section `BEGIN CERTIFICATE`")),
    }
}

fn private_key(key: &str, pem: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        let encrypted = b"BEGIN ENCRYPTED PRIVATE KEY";
        let message = if pem.windows(encrypted.len()).any(|part| part == encrypted) {
            "is encrypted, and there is nobody to ask for its password; write it decrypted"
        } else if CertificateDer::from_pem_slice(pem).is_ok() {
            "is a certificate; are the certificate and its key swapped?"
        } else {
            "has no section `BEGIN PRIVATE KEY`, `BEGIN RSA PRIVATE KEY` or `BEGIN EC PRIVATE KEY`"
        };
        Fault::new(key, message)
    })
}

fn shown(file: &Path, chain: &[CertificateDer<'_>]) -> Option<Shown> {
    let leaf = EndEntityCert::try_from(chain.first()?).ok()?;
    let names = leaf.valid_dns_names().map(str::to_ascii_lowercase).collect();
    let ends = chain.iter().map(validity::not_after).collect::<Option<Vec<_>>>()?;
    Some(Shown { file: file.to_owned(), names, not_after: ends.into_iter().min()? })
}

/// Reads authorities. Those of a bundle that cannot be used are left out, and said so: bundles of
/// systems have some. Whether one has expired does not matter to any verifier (RFC 5280, 6.1.1).
pub(super) fn authorities(disk: &Disk, key: &str, path: &Path) -> Result<RootCertStore, Fault> {
    let all = disk.of_key(key, path).and_then(|pem| chain(key, &pem))?;
    let mut store = RootCertStore::empty();
    match store.add_parsable_certificates(all) {
        (0, _) => Err(Fault::new(key, "has no certificate that can be an authority's")),
        (_, 0) => Ok(store),
        (used, left) => {
            let file = path.display();
            tracing::warn!(%file, used, left, "authorities that cannot be used are left out");
            Ok(store)
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
