//! `outrigger records`: asks a running proxy's admin listener, and shows what it says.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// How long an answer may take; the proxy itself gives up before.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most that is read of an answer: a thousand records and then some.
const ANSWER_BYTES: u64 = 8 << 20;

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Records {
    /// List records, those of unknown outcome unless asked for others
    List {
        /// in_flight, completed, retryable, unknown, tombstone (with commas), or all.
        #[arg(long, default_value = "unknown")]
        state: String,
        /// Go on after this: what the list before ended with.
        #[arg(long, value_name = "CURSOR")]
        after: Option<String>,
        /// How many; at most 1000.
        #[arg(long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        at: At,
    },
    /// Show one record
    Show {
        /// Its reference, op_...
        reference: String,
        #[command(flatten)]
        at: At,
    },
    /// Say what became of an operation whose outcome is unknown
    #[command(group(clap::ArgGroup::new("outcome").required(true)))]
    Resolve {
        /// Its reference, op_...
        reference: String,
        /// It was executed; STATUS is what its answer had or would have had.
        #[arg(long, value_name = "STATUS", group = "outcome")]
        executed: Option<u16>,
        /// It was not executed: the key can be used again.
        #[arg(long, group = "outcome")]
        not_executed: bool,
        /// Also while the upstream could still execute it.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        at: At,
    },
    /// Forget a record, whatever it says: the key can be used again
    Purge {
        /// Its reference, op_...
        reference: String,
        /// Also while the upstream could still execute it.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        at: At,
    },
}

/// Whom to ask.
#[derive(Args)]
pub(crate) struct At {
    /// The proxy's admin address, host:port or unix:/path.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15000")]
    admin: String,
    /// The file with the proxy's admin token.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// The store; not needed where there is one.
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Asks and shows; exit 1 when it is refused.
pub(crate) fn records(what: Records) -> ExitCode {
    let (at, answer) = match what {
        Records::List { state, after, limit, at } => {
            let limit = limit.to_string();
            let mut query = vec![("state", state.as_str()), ("limit", &limit)];
            query.extend(after.as_deref().map(|after| ("after", after)));
            let answer = at.ask("GET", "/records", &query, None);
            (at, answer.map(|answer| (list(&answer), answer)))
        }
        Records::Show { reference, at } => {
            let path = format!("/records/{}", encoded(&reference));
            let answer = at.ask("GET", &path, &[], None);
            (at, answer.map(|answer| (lines(&answer), answer)))
        }
        Records::Resolve { reference, executed, not_executed: _, force, at } => {
            let mut said = json!({ "executed": executed.is_some() });
            if let Some(status) = executed {
                said["status"] = status.into();
            }
            let answer = at.change(&reference, "resolve", said, force);
            (at, answer.map(|answer| (change(&answer), answer)))
        }
        Records::Purge { reference, force, at } => {
            let answer = at.change(&reference, "purge", json!({}), force);
            (at, answer.map(|answer| (change(&answer), answer)))
        }
    };
    match answer {
        Ok((_, answer)) if at.json => print(&format!("{answer:#}\n")),
        Ok((shown, _)) => print(&shown),
        Err(why) => {
            eprintln!("outrigger: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what was answered; nobody may be reading it any more.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

impl At {
    fn change(
        &self,
        reference: &str,
        verb: &str,
        mut said: Value,
        force: bool,
    ) -> Result<Value, String> {
        if force {
            said["force"] = true.into();
        }
        let path = format!("/records/{}/{verb}", encoded(reference));
        self.ask("POST", &path, &[], Some(&said))
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let token = token(&self.token_file)?;
        let store = self.store.as_deref().map(|store| ("store", store));
        let query: Vec<_> = query
            .iter()
            .copied()
            .chain(store)
            .map(|(name, value)| format!("{name}={}", encoded(value)))
            .collect();
        let body = body.map(Value::to_string).unwrap_or_default();
        let question = format!(
            "{method} {path}?{} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            query.join("&"),
            body.len()
        );
        let answer = exchange(&self.admin, question.as_bytes())
            .map_err(|error| format!("{} does not answer: {error}", self.admin))?;
        let (status, body) =
            parsed(&answer).ok_or_else(|| format!("{} does not answer in HTTP", self.admin))?;
        let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        if status == 200 {
            return Ok(body);
        }
        let detail = body["detail"].as_str().unwrap_or("no reason is given");
        Err(format!("{} refuses ({status}): {detail}", self.admin))
    }
}

fn token(file: &Path) -> Result<String, String> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{shown}: {error}"))?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{shown} holds no token"));
    }
    Ok(token.to_owned())
}

fn exchange(admin: &str, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut answer = Vec::new();
    if let Some(path) = admin.strip_prefix("unix:") {
        let mut stream = std::os::unix::net::UnixStream::connect(path)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(question)?;
        stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    } else {
        let mut stream = std::net::TcpStream::connect(admin)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(question)?;
        stream.take(ANSWER_BYTES).read_to_end(&mut answer)?;
    }
    Ok(answer)
}

/// The status and the body; the admin listener gives every body its length and then closes.
fn parsed(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let (head, body) = answer.split_at_checked(end + 4)?;
    let line = std::str::from_utf8(head).ok()?.lines().next()?;
    Some((line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?, body))
}

/// Everything but letters, digits and `-._~` as `%XX`.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let of = |byte| if plain(&byte) { char::from(byte).into() } else { format!("%{byte:02X}") };
    text.bytes().map(of).collect()
}

/// A value as a cell of a table.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

const HEADER: [&str; 6] = ["REF", "STATE", "FIRST SEEN", "TRIES", "WHY", "STATUS"];

fn list(answer: &Value) -> String {
    let none = Vec::new();
    let records = answer["records"].as_array().unwrap_or(&none);
    if records.is_empty() {
        return "no records\n".to_owned();
    }
    let row = |record: &Value| {
        let status = match &record["status"] {
            Value::Null => &record["observed_status"],
            status => status,
        };
        let [why, tries] = ["doubt", "attempts"].map(|name| cell(&record[name]));
        let [reference, state, first] =
            ["ref", "state", "first_seen"].map(|name| cell(&record[name]));
        [reference, state, first, tries, why, cell(status)]
    };
    let rows: Vec<_> =
        std::iter::once(HEADER.map(str::to_owned)).chain(records.iter().map(row)).collect();
    let mut widths = [0; HEADER.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let mut table: String = rows.iter().map(line).collect();
    if let Some(next) = answer["next"].as_str() {
        table += &format!("there are more: --after {next}\n");
    }
    table
}

fn lines(answer: &Value) -> String {
    let Some(fields) = answer.as_object() else { return String::new() };
    let width = fields.keys().map(String::len).max().unwrap_or_default();
    fields.iter().map(|(name, value)| format!("{name:<width$}  {}\n", cell(value))).collect()
}

fn change(answer: &Value) -> String {
    let [reference, before, after] = ["ref", "before", "after"].map(|name| cell(&answer[name]));
    if answer["outcome"] == "already" {
        return format!("{reference}: had been done before\n");
    }
    format!("{reference}: {before} -> {after}\n")
}
