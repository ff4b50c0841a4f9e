//! Opens connections, and says what a server is.

use std::pin::Pin;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, RedisConnectionInfo, Value, cmd};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::address::{Address, Target};
use super::fault::{self, Answer};
use crate::clock;
use crate::records::{Cause, Kind};

/// How long opening a connection may take, and how long a server may take to say what it is.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// What of a connection sends and receives; over when the connection is.
pub(super) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Opens a connection and logs in.
pub(super) async fn open(
    address: &Address,
    target: &Target,
    login: &RedisConnectionInfo,
) -> Result<(MultiplexedConnection, Driver), Cause> {
    let opened = Box::pin(opened(address, target, login));
    match clock::until(clock::now() + PATIENCE, opened).await {
        Ok(done) => done,
        Err(_) => {
            let what = format!("{address} has not answered a new connection for a second");
            Err(Cause::new(Kind::Unreachable, what))
        }
    }
}

async fn opened(
    address: &Address,
    target: &Target,
    login: &RedisConnectionInfo,
) -> Result<(MultiplexedConnection, Driver), Cause> {
    let unreachable = |error: std::io::Error| {
        Cause::new(Kind::Unreachable, format!("{address} cannot be reached: {error}"))
    };
    let stream: Box<dyn Duplex> = match (address, &target.tls) {
        (Address::Unix(path), _) => Box::new(UnixStream::connect(path).await.map_err(unreachable)?),
        (Address::Tcp { host, port }, tls) => {
            let stream = TcpStream::connect((&**host, *port)).await.map_err(unreachable)?;
            stream.set_nodelay(true).map_err(unreachable)?;
            match tls {
                None => Box::new(stream),
                Some(tls) => {
                    let name = ServerName::try_from(host.to_string()).map_err(|_| {
                        Cause::new(Kind::Unfit, format!("{host} is no name for a certificate"))
                    })?;
                    Box::new(tls.connect(name, stream).await.map_err(unreachable)?)
                }
            }
        }
    };
    // Whoever asks bounds the time itself.
    let settings = AsyncConnectionConfig::new().set_response_timeout(None);
    let (connection, driver) =
        MultiplexedConnection::new_with_config(login, stream, settings).await.map_err(|error| {
            let cause = fault::lost(&error);
            match cause.kind {
                Kind::ConnectionLost => Cause::new(
                    Kind::Unreachable,
                    format!("{address} ended a new connection: {error}"),
                ),
                _ => Cause::new(cause.kind, format!("{address}: {}", cause.detail)),
            }
        })?;
    Ok((connection, Box::pin(driver)))
}

/// One question over a connection, within the time that a server may take to say what it is.
pub(super) async fn ask(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
) -> Result<Value, Cause> {
    let asked = connection.send_packed_command(command);
    let Ok(came) = clock::until(clock::now() + PATIENCE, asked).await else {
        return Err(Cause::new(Kind::Timeout, "the server has not answered for a second"));
    };
    match fault::answer(came) {
        Answer::Is(value) => Ok(value),
        Answer::Refused(cause) | Answer::Full(cause) | Answer::Silent(cause) => Err(cause),
        Answer::NoScript | Answer::Elsewhere { .. } => {
            Err(Cause::new(Kind::Protocol, "the server answers what was not asked"))
        }
    }
}

/// One question over a connection that is opened for it.
pub(super) async fn ask_once(
    address: &Address,
    target: &Target,
    login: &RedisConnectionInfo,
    command: &Cmd,
) -> Result<Value, Cause> {
    let (mut connection, driver) = open(address, target, login).await?;
    tokio::select! {
        value = ask(&mut connection, command) => value,
        () = driver => {
            Err(Cause::new(Kind::ConnectionLost, format!("{address} ended the connection")))
        }
    }
}

/// The primary, as the first sentinel that knows it says.
pub(super) async fn primary(target: &Target, name: &str) -> Result<Address, Cause> {
    let mut command = cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(name);
    // Sentinels often have no passwords of their own, and refuse one then.
    let plain = RedisConnectionInfo::default().set_skip_set_lib_name();
    let same = target.login.clone().set_db(0);
    let mut last = Cause::new(Kind::Unreachable, "there are no sentinels");
    for address in &target.addresses {
        for login in [&same, &plain] {
            match ask_once(address, target, login, &command).await {
                Ok(value) => match primary_of(&value) {
                    Some(found) => return Ok(found),
                    None => {
                        let what = format!("sentinel {address} knows no primary `{name}`");
                        last = Cause::new(Kind::Unavailable, what);
                    }
                },
                Err(cause) => {
                    let refused = cause.kind == Kind::Unfit;
                    last = cause;
                    if refused {
                        continue;
                    }
                }
            }
            break;
        }
    }
    Err(last)
}

fn primary_of(value: &Value) -> Option<Address> {
    let Value::Array(parts) = value else { return None };
    let [Value::BulkString(host), Value::BulkString(port)] = parts.as_slice() else { return None };
    let host = std::str::from_utf8(host).ok()?;
    let port = std::str::from_utf8(port).ok()?.parse().ok()?;
    Some(Address::Tcp { host: host.into(), port })
}
