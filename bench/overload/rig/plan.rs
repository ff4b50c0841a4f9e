//! How options spell what happens when: changes of the upstream, steps of the load, and who sends.

use std::str::FromStr;
use std::time::Duration;

use outrigger::units::{Period, Ratio};

/// Something that happens at a time after the start, written `20s:die` or `10s:3600/s`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At<T> {
    pub(crate) at: Duration,
    pub(crate) what: T,
}

impl<T: FromStr> FromStr for At<T>
where
    T::Err: ToString,
{
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':');
        let (at, what) = parts.ok_or_else(|| format!("`{text}` is not TIME:WHAT"))?;
        let at = at.parse::<Period>()?.get();
        Ok(Self { at, what: what.parse().map_err(|error: T::Err| error.to_string())? })
    }
}

/// What an upstream does from some time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The listener and all connections close, and what waits is lost.
    Die,
    /// Connections and requests are taken and never answered.
    Hang,
    /// It serves with half of its slots.
    Half,
    /// It serves with all of them.
    Full,
}

impl FromStr for Change {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "die" => Self::Die,
            "hang" => Self::Hang,
            "half" => Self::Half,
            "full" => Self::Full,
            _ => return Err(format!("`{text}` is none of die, hang, half, full")),
        })
    }
}

/// Requests that are alike, written `NAME:SHARE[:KEY=VALUE,...]`. The key `path` sets the path,
/// every other one is a header. A value that ends in `*100` stands for a hundred of them, numbered,
/// of which each request draws one.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) name: String,
    /// Of all requests; the shares of the classes need not come to one.
    pub(crate) share: f64,
    path: String,
    headers: Vec<(String, String)>,
    /// How many values the numbered headers have; 1 without such.
    pub(crate) numbers: usize,
}

impl Class {
    /// All requests as one class.
    pub(crate) fn all() -> Self {
        let (name, path) = ("all".to_owned(), "/".to_owned());
        Self { name, share: 1.0, path, headers: Vec::new(), numbers: 1 }
    }

    /// The bytes of a request with the given number, and with the given fields besides its own.
    pub(crate) fn bytes(&self, number: usize, more: &str) -> Vec<u8> {
        let mut text = format!("GET {} HTTP/1.1\r\nhost: upstream\r\n{more}", self.path);
        for (name, value) in &self.headers {
            let value = match value.rsplit_once('*') {
                Some((stem, _)) => format!("{stem}{number}"),
                None => value.clone(),
            };
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), String> {
        if let Some((_, count)) = value.rsplit_once('*') {
            let count = count.parse::<usize>().ok().filter(|count| *count > 0);
            self.numbers = count.ok_or_else(|| format!("`{value}` does not end in a number"))?;
        }
        self.headers.push((name.to_owned(), value.to_owned()));
        Ok(())
    }
}

impl FromStr for Class {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let name = parts.next().unwrap_or_default().to_owned();
        let share = parts.next().ok_or_else(|| format!("`{text}` is not NAME:SHARE"))?;
        let share = share.parse::<Ratio>()?.get();
        let mut class = Self { name, share, ..Self::all() };
        for pair in parts.next().unwrap_or_default().split(',').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("path", path)) => class.path = path.to_owned(),
                Some((name, value)) => class.add(name, value)?,
                None => return Err(format!("`{pair}` is not KEY=VALUE")),
            }
        }
        Ok(class)
    }
}
