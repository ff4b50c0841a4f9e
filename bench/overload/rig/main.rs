//! Both ends of an overload: an upstream whose capacity is exact, and a load that does not wait.
//!
//! `../overload.py` starts them on both sides of a proxy; `bench/METHOD.md` says what is measured.

mod ledger;
mod load;
mod plan;
mod slots;
mod tally;
#[cfg(test)]
mod tests;
mod third_party;
mod upstream;
mod wire;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The ends of an overload measurement.
#[derive(Parser)]
#[command(name = "rig")]
struct Command {
    #[command(subcommand)]
    end: End,
}

#[derive(Subcommand)]
enum End {
    /// Serves with N slots and a queue in front of them until SIGTERM, then prints what it did.
    Upstream(upstream::Options),
    /// Sends at given times whatever the answers do, then prints what came back.
    Load(load::Options),
}

fn main() -> ExitCode {
    let ended = match Command::parse().end {
        End::Upstream(options) => upstream::run(&options),
        End::Load(options) => load::run(options),
    };
    let ended = ended.and_then(|found| writeln!(std::io::stdout().lock(), "{found}"));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "rig: {error}");
            ExitCode::FAILURE
        }
    }
}
