//! The file of a unix socket: what it takes the place of, who may connect to it, and its end.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::listener::SocketMode;

/// The file of a socket that we listen on. Removed when this is dropped, if it is still the one
/// that we have made and not one that somebody put in its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    made: Option<(u64, u64)>,
}

impl SocketFile {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.made.is_some() && self.made == identity(&self.path) {
            // Gone already, or not ours to worry about.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Listens at a path. Nobody can connect before the file has its permissions.
///
/// # Errors
/// What the operating system said: above all, that there is a file already, other than a socket
/// which nobody listens on.
pub fn listen(
    path: &Path,
    mode: Option<SocketMode>,
    backlog: i32,
) -> std::io::Result<(UnixListener, SocketFile)> {
    remove_dead(path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile { path: path.to_owned(), made: identity(path) };
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode.bits()))?;
    }
    socket.listen(backlog)?;
    Ok((socket.into(), file))
}

/// A socket file that nobody listens on is left over from a process that was killed.
fn remove_dead(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        // If it cannot be removed, the bind that follows says so.
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests;
