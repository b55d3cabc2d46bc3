//! HTTP that a node answers at its own addresses, for as long as somebody wants it to.
//!
//! Two agents of a node can listen at one place: the next one does before the one before has ended.

use std::io;
use std::net::{SocketAddr, TcpListener};

use axum::Router;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// What answers. It is closed when this is dropped.
pub(crate) struct Answering(JoinHandle<()>);

impl Answering {
    /// Has requests to an address answered from now on.
    ///
    /// # Errors
    /// If it is no address of the node, or in use.
    pub(crate) fn open(runtime: &Handle, at: SocketAddr, router: Router) -> io::Result<Self> {
        let listener = listener(at)?;
        let server = runtime.spawn(async move {
            let served = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => axum::serve(listener, router).await,
                Err(error) => Err(error),
            };
            if let Err(error) = served {
                tracing::error!(address = %at, %error, "it is not answered for any more");
            }
        });
        Ok(Self(server))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn listener(at: SocketAddr) -> io::Result<TcpListener> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    bind(&socket, &at)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}

/// Requests that may wait to be taken.
const BACKLOG: i32 = 64;
