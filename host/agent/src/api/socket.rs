//! The admin socket as a file: made so that nobody else can use it, not even for a moment,
//! and taken over from a host that died.
//!
//! A socket that answers belongs to a host that lives, and is never touched. Two hosts that
//! start at once take turns by a lock on the folder.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// A listening admin socket. Its file goes when this is dropped.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    path: PathBuf,
    /// Which file it is: somebody may have put another one in its place.
    inode: u64,
}

impl AdminSocket {
    /// Makes the socket beside that of a host that answers, to [replace](Self::replace) it.
    ///
    /// # Errors
    /// As [`listen`](Self::listen).
    pub(crate) fn listen_beside(path: &Path) -> anyhow::Result<(Self, UnixListener)> {
        Self::listen(&path.with_extension("next"))
    }

    /// Has the socket be at another path, in place of the one that is there: whoever connects finds
    /// one of both.
    ///
    /// # Errors
    /// If the place cannot be written.
    pub(crate) fn replace(&mut self, path: &Path) -> anyhow::Result<()> {
        let moved = fs::rename(&self.path, path);
        moved.with_context(|| format!("the admin socket {}", path.display()))?;
        self.path = path.to_owned();
        Ok(())
    }

    /// Makes the socket, and its folder if there is none.
    ///
    /// # Errors
    /// If a host answers there already, something else is there, or the place cannot be written.
    pub(crate) fn listen(path: &Path) -> anyhow::Result<(Self, UnixListener)> {
        let listen = || {
            let _turn = lock(folder_of(path))?;
            clear(path)?;
            let listener = bind(path)?;
            let inode = fs::symlink_metadata(path)?.ino();
            anyhow::Ok((Self { path: path.to_owned(), inode }, listener))
        };
        listen().with_context(|| format!("the admin socket {}", path.display()))
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the admin socket stays behind");
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes the folder if need be, and locks it for as long as the file is open.
fn lock(folder: &Path) -> anyhow::Result<File> {
    let lock = || {
        if !folder.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = File::open(folder)?;
        file.lock()?;
        io::Result::Ok(file)
    };
    lock().map_err(|error| elsewhere(&error, &format!("its folder {}", folder.display())))
}

/// Removes the socket of a host that died.
fn clear(path: &Path) -> anyhow::Result<()> {
    let Ok(file) = fs::symlink_metadata(path) else { return Ok(()) };
    if !file.file_type().is_socket() {
        bail!("something else is there, which is no socket; name another path with `--socket`");
    }
    match UnixStream::connect(path) {
        Ok(_) => bail!(
            "another host answers there; stop it (`millrace status` names its process), or give \
             this one a socket of its own with `--socket`"
        ),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "taking over the socket of a host that died");
            fs::remove_file(path).map_err(|error| elsewhere(&error, "the old one"))
        }
        Err(error) => Err(elsewhere(&error, "the one that is there")),
    }
}

/// A listening socket that only its owner may use, from the moment its file is there.
fn bind(path: &Path) -> anyhow::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)
        .map_err(|_| anyhow!("its path is too long: a socket's has at most 107 bytes"))?;
    let bound = || {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // the file gets the mode of the socket (unix_bind in net/unix/af_unix.c)
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, BACKLOG)?;
        rustix::io::Result::Ok(UnixListener::from(socket))
    };
    bound().map_err(|error| elsewhere(&error.into(), "it"))
}

fn elsewhere(error: &io::Error, what: &str) -> anyhow::Error {
    anyhow!("{what} cannot be used: {error}; run as root, or name another path with `--socket`")
}

/// Requests that may wait to be taken.
const BACKLOG: i32 = 64;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_socket_and_its_new_folder_are_closed_to_others_and_the_file_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/millrace.sock");
        let (socket, _listener) = AdminSocket::listen(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(UnixStream::connect(&path).is_ok());
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_socket_that_answers_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.sock");
        let (_socket, _listener) = AdminSocket::listen(&path).unwrap();
        let error = AdminSocket::listen(&path).unwrap_err();
        assert!(format!("{error:#}").contains("another host answers there"), "{error:#}");
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn the_socket_of_a_host_that_died_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.sock");
        let (socket, listener) = AdminSocket::listen(&path).unwrap();
        drop(listener);
        std::mem::forget(socket);
        assert!(UnixStream::connect(&path).is_err() && path.exists());

        let (_socket, _listener) = AdminSocket::listen(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("precious");
        fs::write(&path, "text").unwrap();
        let error = AdminSocket::listen(&path).unwrap_err();
        assert!(format!("{error:#}").contains("which is no socket"), "{error:#}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
    }

    #[test]
    fn the_file_of_another_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.sock");
        let (socket, _listener) = AdminSocket::listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }

    #[test]
    fn a_socket_takes_the_place_of_another_whose_host_leaves_it_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.sock");
        let (former, _listener) = AdminSocket::listen(&path).unwrap();
        let (mut socket, listener) = AdminSocket::listen_beside(&path).unwrap();
        socket.replace(&path).unwrap();
        drop(former);
        UnixStream::connect(&path).unwrap();
        listener.set_nonblocking(false).unwrap();
        listener.accept().unwrap();
        drop(socket);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_cannot_be_used_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.join("m.sock"), folder.path().join("x".repeat(120))] {
            let error = format!("{:#}", AdminSocket::listen(&path).unwrap_err());
            assert!(error.contains(&format!("the admin socket {}", path.display())), "{error}");
            assert!(error.contains("--socket") || error.contains("too long"), "{error}");
        }
    }
}
