use std::fs;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

/// Certificates and keys in a folder of their own.
pub(in crate::tls) struct Scene(pub(in crate::tls) TempDir);

impl Scene {
    pub(in crate::tls) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Writes `name.crt` and `name.key` for these names, good until this year.
    pub(in crate::tls) fn write(&self, name: &str, names: &[&str], until: i32) -> CertificateFiles {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let cert = self.put(&format!("{name}.crt"), &certificate.pem());
        CertificateFiles { cert, key: self.put(&format!("{name}.key"), &key.serialize_pem()) }
    }

    pub(in crate::tls) fn put(&self, file: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(file);
        fs::write(&path, content).unwrap();
        path
    }
}

fn faults(files: &CertificateFiles) -> Vec<(String, String)> {
    let result = certificate(&Disk::default(), "certificates[1].", files);
    let faults = result.map(|_| ()).unwrap_err();
    faults.into_iter().map(|fault| (fault.key, fault.message)).collect()
}

#[test]
fn a_certificate_is_shown_by_its_names_and_its_end() {
    let scene = Scene::new();
    let files = scene.write("a", &["A.test", "*.a.test"], 2030);
    let (_, shown) = certificate(&Disk::default(), "", &files).unwrap();
    assert_eq!(shown.names, ["a.test", "*.a.test"]);
    assert_eq!(shown.not_after, 1_893_456_000);
    assert_eq!(shown.file, files.cert);
}

#[test]
fn a_chain_is_as_good_as_the_first_of_it_to_expire() {
    let scene = Scene::new();
    let files = scene.write("leaf", &["a.test"], 2040);
    let other = scene.write("other", &["b.test"], 2031);
    let chain = [&files.cert, &other.cert].map(|file| fs::read_to_string(file).unwrap());
    fs::write(&files.cert, chain.concat()).unwrap();
    let (key, shown) = certificate(&Disk::default(), "", &files).unwrap();
    assert_eq!((key.cert.len(), shown.not_after), (2, 1_924_992_000));
}

#[test]
fn both_files_are_looked_at_and_each_fault_names_its_setting() {
    let scene = Scene::new();
    let files = CertificateFiles {
        cert: scene.put("empty.crt", "no certificate\n"),
        key: scene.0.path().join("absent.key"),
    };
    let found = faults(&files);
    assert_eq!(found[0].0, "certificates[1].cert");
    assert_eq!(found[0].1, "has no section `BEGIN CERTIFICATE`");
    assert_eq!(found[1].0, "certificates[1].key");
    assert!(found[1].1.contains("No such file"), "{found:?}");
}

#[test]
fn a_slip_in_a_files_name_is_seen_through() {
    let scene = Scene::new();
    let files = scene.write("server", &["a.test"], 2030);
    let slip = CertificateFiles { cert: scene.0.path().join("sever.crt"), ..files.clone() };
    let fault = certificate(&Disk::default(), "", &slip).map(|_| ()).unwrap_err().remove(0);
    assert_eq!(fault.suggestion, Some(files.cert.display().to_string()));
}

#[test]
fn what_does_not_fit_together_or_cannot_be_used_is_refused() {
    let scene = Scene::new();
    let (a, b) = (scene.write("a", &["a.test"], 2030), scene.write("b", &["b.test"], 2030));
    let pair = |cert: &Path, key: &Path| {
        let files = CertificateFiles { cert: cert.to_owned(), key: key.to_owned() };
        faults(&files).into_iter().map(|(_, message)| message).collect::<Vec<_>>().join("; ")
    };
    assert!(pair(&a.cert, &b.key).starts_with("is not the private key of the certificate in `"));
    let swapped = pair(&a.key, &a.cert);
    assert!(swapped.contains("is a private key; are"), "{swapped}");
    assert!(swapped.contains("is a certificate; are"), "{swapped}");
    let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----";
    assert!(pair(&a.cert, &scene.put("locked.key", locked)).starts_with("is encrypted"));
    let broken = scene.put("broken.crt", "-----BEGIN CERTIFICATE-----\n!!!\n");
    assert!(pair(&broken, &a.key).contains("a section of it is broken"));
    let folder = scene.0.path().to_owned();
    assert!(pair(&folder, &a.key).contains("not a regular file"));
}

#[test]
fn no_fault_quotes_the_content_of_a_file() {
    let scene = Scene::new();
    let a = scene.write("a", &["a.test"], 2030);
    let key = fs::read_to_string(&a.key).unwrap();
    let secret = key.lines().nth(1).unwrap();
    for content in [
        key.clone(),
        key.replace("-----END", "----END"),
        key.replace("PRIVATE KEY-----", "PRIVATE KEY--"),
        format!("-----BEGIN {secret}\n{key}"),
        format!("-----BEGIN PRIVATE KEY-----\n{secret}"),
    ] {
        let file = scene.put("x", &content);
        for files in [
            CertificateFiles { cert: file.clone(), key: file.clone() },
            CertificateFiles { cert: a.cert.clone(), key: file.clone() },
            CertificateFiles { cert: file.clone(), key: a.key.clone() },
        ] {
            if let Err(faults) = certificate(&Disk::default(), "", &files) {
                assert!(!format!("{faults:?}").contains(secret), "{faults:?}");
            }
        }
    }
}

#[test]
fn authorities_are_read_from_a_bundle() {
    let scene = Scene::new();
    let (a, b) = (scene.write("a", &["a.test"], 2030), scene.write("b", &["b.test"], 2001));
    let bundle = [&a.cert, &b.cert].map(|file| fs::read_to_string(file).unwrap()).concat();
    let bundle = scene.put("ca.crt", &bundle);
    assert_eq!(authorities(&Disk::default(), "ca", &bundle).unwrap().len(), 2);
    let fault = authorities(&Disk::default(), "ca", &a.key).unwrap_err();
    assert!(fault.message.contains("is a private key"), "{fault:?}");
}

#[test]
fn other_content_has_another_fingerprint_and_a_file_is_read_once() {
    let scene = Scene::new();
    let file = scene.put("a", "one");
    let disk = Disk::default();
    let before = disk.fingerprint([file.as_path()]);
    scene.put("a", "two");
    assert_eq!(disk.fingerprint([file.as_path()]), before);
    let now = Disk::default().fingerprint([file.as_path()]);
    assert_ne!(now, before);
    fs::remove_file(&file).unwrap();
    assert_ne!(Disk::default().fingerprint([file.as_path()]), now);
}
