//! Frames that are sent as they are, past the host's stack.

use std::io;
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrLike, bind, send, socket,
};

/// Sends a frame by a link of this thread's namespace, from its Ethernet header on (packet(7)).
///
/// # Errors
/// If there is no such link, or the kernel refuses: it takes `CAP_NET_RAW`.
pub fn send_frame(link: &str, frame: &[u8]) -> io::Result<()> {
    let is_link = |it: &nix::ifaddrs::InterfaceAddress| {
        let address = it.address.as_ref();
        it.interface_name == link
            && address.is_some_and(|it| it.family() == Some(AddressFamily::Packet))
    };
    let found = getifaddrs()?.find(is_link).and_then(|it| it.address);
    let address = found.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("there is no link `{link}`"))
    })?;
    // for no protocol: nothing is received
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), &address)?;
    send(socket.as_raw_fd(), frame, MsgFlags::empty())?;
    Ok(())
}
