//! The demo's folder for as long as it runs, and the values that it puts into its configuration.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::service::Services;
use crate::config::{Environment, ProcessEnvironment};

/// Where the configuration is in a checkout of this repository.
const IN_CHECKOUT: &str = "config/demo.yaml";
/// The same as it was when this program was built.
const EMBEDDED: &str = include_str!("../../config/demo.yaml");
/// The ports that the demo takes when they are free, so that its addresses are the usual ones.
const USUAL: Ports = Ports { admin: 15000, listener: 15001 };
/// The length of the admin token in bytes of chance.
const TOKEN_BYTES: usize = 16;

/// A folder that goes when this does.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder below the system's own for such, which nobody else can read.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn new() -> io::Result<Self> {
        let (parent, id) = (std::env::temp_dir(), std::process::id());
        // A short name is easier to copy; one that is taken is not ours to use.
        let short = parent.join(format!("outrigger-{id}"));
        let long = parent.join(format!("outrigger-{id}-{:08x}", fastrand::u32(..)));
        let create = |path: PathBuf| DirBuilder::new().mode(0o700).create(&path).map(|()| path);
        let path = create(short).or_else(|_| create(long))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a new token for the admin address; returns the file that it is in.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn token(&self) -> io::Result<PathBuf> {
        let mut chance = [0; TOKEN_BYTES];
        fs::File::open("/dev/urandom")?.read_exact(&mut chance)?;
        let token: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
        let path = self.path.join("token");
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(token.as_bytes())?;
        Ok(path)
    }

    /// The file to run under: the one that was asked for, else the checkout's, else a copy in this
    /// folder.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn config(&self, asked: Option<PathBuf>) -> io::Result<PathBuf> {
        if let Some(path) = asked {
            return Ok(path);
        }
        let in_checkout = Path::new(IN_CHECKOUT);
        if in_checkout.is_file() {
            return Ok(in_checkout.to_owned());
        }
        let path = self.path.join("demo.yaml");
        fs::write(&path, EMBEDDED)?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nobody is left to be told; the system clears its own folder for such in time.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Ports of the sidecar; 0 = the system chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    admin: u16,
    listener: u16,
}

impl Ports {
    /// Whatever is free.
    pub const ANY: Self = Self { admin: 0, listener: 0 };

    /// The usual ones where they are free.
    #[must_use]
    pub fn usual() -> Self {
        let free = |port| {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
            if free { port } else { 0 }
        };
        Self { admin: free(USUAL.admin), listener: free(USUAL.listener) }
    }
}

/// What `${…}` stands for in the demo's configuration; what is not here is the process's own.
#[derive(Clone, Debug)]
pub struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// The values for these servers and ports.
    #[must_use]
    pub fn new(services: &Services, ports: Ports, token: &Path) -> Self {
        let [first, second, third] = services.orders.map(|address| address.port().to_string());
        Self(BTreeMap::from([
            ("ADMIN_PORT", ports.admin.to_string()),
            ("LISTENER_PORT", ports.listener.to_string()),
            ("ORDERS_1_PORT", first),
            ("ORDERS_2_PORT", second),
            ("ORDERS_3_PORT", third),
            ("QUOTES_PORT", services.quotes.port().to_string()),
            ("TOKEN_FILE", token.display().to_string()),
        ]))
    }
}

impl Environment for Values {
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        match self.0.get(name) {
            Some(value) => Ok(Some(value.clone())),
            None => ProcessEnvironment.variable(name),
        }
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        ProcessEnvironment.file(path)
    }
}
