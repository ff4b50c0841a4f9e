//! What each command of the command line does. Standard output is the answer, standard error the
//! rest.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where a command answers")]

use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use outrigger::app::{App, Start, StartError};
use outrigger::config::{self, Problem, ProcessEnvironment};
use outrigger::demo;
use outrigger::explain::Asked;
use outrigger::policy::retry::Suppressed;
use outrigger::records::registry::Registry;
use outrigger::snapshot::Snapshot;
use outrigger::telemetry::log;
use outrigger::telemetry::metrics::Metrics;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) mod records;

/// How long a health question may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// The most that is read of the answer to a health question: its first line is enough.
const HEALTH_BYTES: u64 = 64;
/// The exit code of a process that a second signal ended: 128 and the number of SIGTERM.
const CUT_OFF: u8 = 143;

/// The exit code for a file or an argument that is not valid, as clap's own.
const NOT_VALID: u8 = 2;

/// Serves until a signal.
pub(crate) fn run(file: &Path) -> ExitCode {
    let text = match read(file) {
        Ok(text) => text,
        Err(code) => return code,
    };
    // Read once for the log's own settings, and for the problems, before anything is started.
    let log = match config::read(&text, &ProcessEnvironment) {
        Ok(loaded) => log::init(&loaded.config.telemetry.log).ok(),
        Err(problems) => return refuse(file, &problems),
    };
    let app = match App::start(Start::new(text, Some(file.to_owned()), log)) {
        Ok(app) => app,
        Err(StartError::Config(problems)) => return refuse(file, &problems),
        Err(error) => {
            eprintln!("outrigger: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map(|runtime| runtime.block_on(serve(app))) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) | Err(error) => {
            eprintln!("outrigger: cannot wait for signals: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(app: App) -> std::io::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                // What is wrong with the file has been logged and counted by the reload itself.
                let _ = app.proxy.reload_from_file();
            }
        }
    }
    tokio::select! {
        () = app.drain() => Ok(ExitCode::SUCCESS),
        _ = terminate.recv() => Ok(ExitCode::from(CUT_OFF)),
        _ = interrupt.recv() => Ok(ExitCode::from(CUT_OFF)),
    }
}

/// Prints every problem of a file.
pub(crate) fn check(file: &Path) -> ExitCode {
    let text = match read(file) {
        Ok(text) => text,
        Err(code) => return code,
    };
    match outrigger::check::check(&text, &ProcessEnvironment) {
        Ok(summary) => {
            println!("{}: {summary}", crate::shown(file));
            ExitCode::SUCCESS
        }
        Err(problems) => {
            for problem in &problems {
                println!("{}", problem.in_file(&crate::shown(file)));
            }
            ExitCode::FAILURE
        }
    }
}

/// Explains a request under a file.
pub(crate) fn explain(file: &Path, asked: &Asked, json: bool) -> ExitCode {
    let Ok(text) = read(file) else { return NOT_VALID.into() };
    let snapshot = config::read(&text, &ProcessEnvironment).and_then(|loaded| {
        let (metrics, stores) = (Metrics::new(Suppressed::NAMES), Registry::default());
        Snapshot::compile(loaded, None, &metrics, &stores)
    });
    let snapshot = match snapshot {
        Ok(snapshot) => snapshot,
        Err(problems) => {
            for problem in &problems {
                eprintln!("{}", problem.in_file(&crate::shown(file)));
            }
            return NOT_VALID.into();
        }
    };
    let explanation = match outrigger::explain::explain(&snapshot, asked, None) {
        Ok(explanation) => explanation,
        Err(error) => {
            eprintln!("outrigger: {error}");
            return NOT_VALID.into();
        }
    };
    let written = match serde_json::to_string_pretty(&explanation) {
        Ok(written) if json => written + "\n",
        Err(error) if json => {
            eprintln!("outrigger: the explanation cannot be written as JSON: {error}");
            return ExitCode::FAILURE;
        }
        _ => explanation.to_string(),
    };
    print!("{written}");
    if explanation.route.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the JSON Schema.
pub(crate) fn schema() -> ExitCode {
    println!("{:#}", config::schema());
    ExitCode::SUCCESS
}

/// Runs the demo until its time is over or a signal comes.
pub(crate) fn demo(seconds: Option<u64>, config: Option<PathBuf>) -> ExitCode {
    let mut options = demo::Options::new(demo::Look::of_stdout());
    options.runs = seconds.map(Duration::from_secs);
    options.config = config;
    let shown = || -> Result<(), demo::Error> {
        let system = |error: std::io::Error| demo::Error::Start(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(system)?.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).map_err(system)?;
            let mut terminate = signal(SignalKind::terminate()).map_err(system)?;
            let mut hangup = signal(SignalKind::hangup()).map_err(system)?;
            let ended = async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    _ = hangup.recv() => {}
                }
            };
            demo::run(&options, &mut std::io::stdout(), ended).await.map(drop)
        })
    };
    match shown() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the pipe has seen enough.
        Err(demo::Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("outrigger: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Asks a running proxy whether it is ready.
pub(crate) fn health(admin: &str) -> ExitCode {
    match ask(admin) {
        Ok(line) if line.starts_with("HTTP/1.1 200") => ExitCode::SUCCESS,
        Ok(line) => {
            eprintln!("outrigger: {admin} is not ready: {line}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("outrigger: {admin} does not answer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask(admin: &str) -> std::io::Result<String> {
    const QUESTION: &[u8] = b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut answer = Vec::new();
    if let Some(path) = admin.strip_prefix("unix:") {
        let mut stream = std::os::unix::net::UnixStream::connect(path)?;
        stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
        stream.write_all(QUESTION)?;
        stream.take(HEALTH_BYTES).read_to_end(&mut answer)?;
    } else {
        let mut stream = std::net::TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(HEALTH_TIMEOUT))?;
        stream.write_all(QUESTION)?;
        stream.take(HEALTH_BYTES).read_to_end(&mut answer)?;
    }
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn read(file: &Path) -> Result<String, ExitCode> {
    std::fs::read_to_string(file).map_err(|error| {
        eprintln!("outrigger: cannot read {}: {error}", crate::shown(file));
        ExitCode::FAILURE
    })
}

fn refuse(file: &Path, problems: &[Problem]) -> ExitCode {
    for problem in problems {
        eprintln!("{}", problem.in_file(&crate::shown(file)));
    }
    eprintln!("outrigger: not started: {} in {}", count(problems.len()), crate::shown(file));
    ExitCode::FAILURE
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") }
}
