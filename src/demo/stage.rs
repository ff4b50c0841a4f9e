//! All that the demo starts, and stops again: the services, the sidecar, the traffic, a folder.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use super::folder::{Folder, Values};
use super::service::Services;
use super::traffic::Traffic;
use super::{Error, Options};
use crate::app::{Address, App, Start, StartError};
use crate::clock;

/// What runs.
pub struct Stage {
    /// When it began; all times of the demo count from here.
    pub began: Instant,
    /// The sidecar.
    pub app: App,
    /// The services behind it.
    pub services: Services,
    /// The clients in front of it.
    pub traffic: Traffic,
    /// The configuration file.
    pub file: PathBuf,
    /// The file with the secret for the admin address.
    pub token: PathBuf,
    /// Where the sidecar listens.
    pub listener: SocketAddr,
    folder: Folder,
}

/// A sidecar that runs, and its files.
struct Sidecar {
    app: App,
    file: PathBuf,
    token: PathBuf,
}

impl Stage {
    /// Starts everything, or nothing.
    ///
    /// # Errors
    /// What cannot be started.
    pub fn start(options: &Options) -> Result<Self, Error> {
        let folder = Folder::new().map_err(refused)?;
        let began = clock::now();
        let schedule = Arc::new(options.schedule.clone());
        let services = Services::start(schedule, began).map_err(refused)?;
        let Sidecar { app, file, token } = match sidecar(options, &folder, &services) {
            Ok(sidecar) => sidecar,
            Err(error) => {
                services.stop();
                return Err(error);
            }
        };
        let traffic = listener(&app).and_then(|listener| {
            let traffic = Traffic::start(listener, &services.orders, options.rates, began);
            Ok((traffic.map_err(refused)?, listener))
        });
        match traffic {
            Ok((traffic, listener)) => {
                Ok(Self { began, app, services, traffic, file, token, listener, folder })
            }
            Err(error) => {
                app.stop();
                services.stop();
                Err(error)
            }
        }
    }

    /// Stops everything, from the clients to the services, and waits for that.
    pub fn stop(self) {
        self.traffic.stop();
        self.app.stop();
        self.services.stop();
        drop(self.folder);
    }
}

fn refused(error: io::Error) -> Error {
    Error::Start(error.to_string())
}

fn sidecar(options: &Options, folder: &Folder, services: &Services) -> Result<Sidecar, Error> {
    let token = folder.token().map_err(refused)?;
    let file = folder.config(options.config.clone()).map_err(refused)?;
    let text = std::fs::read_to_string(&file);
    let text = text.map_err(|error| Error::File(file.clone(), error))?;
    let environment = Box::new(Values::new(services, options.ports, &token));
    let start = Start { environment, ..Start::new(text, Some(file.clone()), None) };
    match App::start(start) {
        Ok(app) => Ok(Sidecar { app, file, token }),
        Err(StartError::Config(problems)) => Err(Error::Config(file, problems)),
        Err(StartError::System(text)) => Err(Error::Start(text)),
    }
}

/// The first address that traffic can be sent to.
fn listener(app: &App) -> Result<SocketAddr, Error> {
    let tcp = app.listeners.iter().find_map(|(_, address)| match address {
        Address::Tcp(address) => Some(*address),
        Address::Unix(_) => None,
    });
    tcp.ok_or_else(|| {
        let text = "its configuration has no listener on a TCP port; give it one";
        Error::Start(text.to_owned())
    })
}
