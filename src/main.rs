//! The command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use outrigger::explain::Asked;

mod command;

/// A sidecar resilience proxy: timeouts, retries, breakers and limits from one YAML file.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve under FILE until SIGTERM; SIGHUP reads it again.
    Run {
        /// The configuration file.
        file: PathBuf,
    },
    /// Print every problem of FILE, with line, column and suggestion; exit 1 if there is one.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
    /// Explain what would happen to a request: its route, where it goes and under which policies
    ///
    /// Exit 0 if a route matches, 1 if none does, 2 if FILE or the request is not valid.
    Explain {
        /// The configuration file.
        file: PathBuf,
        /// The method.
        #[arg(short = 'X', long, default_value = "GET")]
        method: String,
        /// http://host/path?query, or a path alone.
        url: String,
        /// A header field, `name: value`; may be given several times.
        #[arg(short = 'H', long = "header")]
        headers: Vec<String>,
        /// The listener that the request comes in on; the first of FILE unless given.
        #[arg(long)]
        listener: Option<String>,
        /// Print JSON, as the admin API's /explain does.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of the configuration file, for editors.
    Schema,
    /// Show what this is for: services that break, and traffic through the proxy and past it.
    Demo {
        /// End after this many seconds; without it, on Ctrl-C.
        #[arg(long)]
        seconds: Option<u64>,
        /// Run under this file instead of config/demo.yaml; it may use the same ${NAMES}.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Look at the records of Idempotency-Keys in a running proxy, and settle or forget one
    Records {
        #[command(subcommand)]
        what: command::records::Records,
    },
    /// Ask a running proxy whether it is ready; exit 0 if it is.
    Health {
        /// Its admin address.
        #[arg(default_value = "127.0.0.1:15000")]
        admin: String,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { file } => command::run(&file),
        Command::Check { file } => command::check(&file),
        Command::Explain { file, method, url, headers, listener, json } => {
            command::explain(&file, &Asked { listener, method, url, headers }, json)
        }
        Command::Schema => command::schema(),
        Command::Demo { seconds, config } => command::demo(seconds, config),
        Command::Records { what } => command::records::records(what),
        Command::Health { admin } => command::health(&admin),
    }
}

/// A file's name as the user wrote it.
fn shown(file: &Path) -> String {
    file.display().to_string()
}
