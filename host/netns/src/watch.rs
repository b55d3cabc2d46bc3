//! A live picture of a namespace's links, so that a user of one notices when it goes and returns.
//!
//! Owns the picture: it starts as a dump, is kept by the kernel's notifications, and every event
//! is a difference between two pictures. Never changes a link.
//!
//! A reader must not break this: the socket joins the group before the first dump, so nothing
//! falls between them; and once a notification is lost (`ENOBUFS`) none of those queued counts,
//! but a new dump.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{DecodeError, NetlinkPayload};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

use crate::socket::{drain, is_overrun, messages, receive};
use crate::{Link, Namespace, Netlink, NetlinkError};

/// The links of a namespace and what happens to them.
///
/// To wait for it along with other things, poll its descriptor for reading and then call
/// [`try_next`](LinkWatch::try_next) until there is nothing left.
#[derive(Debug)]
pub struct LinkWatch {
    /// A member of the groups, never blocking.
    socket: Socket,
    /// For dumps.
    netlink: Netlink,
    /// For messages: "namespace `x`".
    namespace: String,
    /// The picture that `pending` leads up to, by index.
    links: BTreeMap<u32, Link>,
    /// Those that have other queueing disciplines, which were not read yet.
    requeued: BTreeSet<u32>,
    /// Seen, but not handed out yet.
    pending: VecDeque<LinkEvent>,
}

/// One thing that happened to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It was made, or moved here.
    Appeared(Link),
    /// It was set up or down, lost or found its carrier, or has a new MTU, name, address, master or
    /// queueing discipline.
    Changed {
        /// What it was.
        was: Link,
        /// What it is.
        now: Link,
    },
    /// It was deleted, or moved away. One that returns has another index.
    Vanished(Link),
}

impl Namespace {
    /// Starts to watch the links of this namespace.
    pub fn watch_links(&self) -> Result<LinkWatch, NetlinkError> {
        let namespace = self.to_string();
        let socket = self
            .run(subscribe)?
            .map_err(|source| NetlinkError::Socket { namespace: namespace.clone(), source })?;
        let mut watch = LinkWatch {
            socket,
            netlink: self.netlink()?,
            namespace,
            links: BTreeMap::new(),
            requeued: BTreeSet::new(),
            pending: VecDeque::new(),
        };
        watch.redraw()?;
        // what was there before is the picture to start from, not news
        watch.pending.clear();
        Ok(watch)
    }
}

impl LinkWatch {
    /// The links as far as is known, by index: as they were when the watch began, and then ahead
    /// of the events by those not taken yet.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The next event, or `None` if nothing happened since the last.
    pub fn try_next(&mut self) -> Result<Option<LinkEvent>, NetlinkError> {
        while self.pending.is_empty() {
            match receive(&self.socket) {
                // one that cannot be read is as good as lost
                Ok(datagram) => match self.read(&datagram) {
                    Ok(()) => self.look_at_requeued()?,
                    Err(_) => self.catch_up()?,
                },
                Err(error) if is_overrun(&error) => self.catch_up()?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(source) => return Err(self.broken(source)),
            }
        }
        Ok(self.pending.pop_front())
    }

    /// The next event, or `None` if nothing happens for so long.
    pub fn next_within(&mut self, timeout: Duration) -> Result<Option<LinkEvent>, NetlinkError> {
        // one beyond the range of the clock never comes
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            let left = deadline
                .map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Ok(None);
            }
            self.poll(left).map_err(|source| self.broken(source))?;
        }
    }

    fn poll(&self, timeout: Duration) -> io::Result<()> {
        // so does a timeout beyond the range of the system call
        let timeout = Timespec::try_from(timeout).ok();
        let mut sockets = [PollFd::new(&self.socket, PollFlags::IN)];
        match rustix::event::poll(&mut sockets, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn read(&mut self, datagram: &[u8]) -> Result<(), DecodeError> {
        for message in messages(datagram) {
            match message?.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(message))
                    if is_whole(&message) =>
                {
                    self.put(Link::from_message(message));
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(message))
                    if is_whole(&message) =>
                {
                    self.take(message.header.index);
                }
                // the kernel says nothing of the link itself then
                NetlinkPayload::InnerMessage(
                    RouteNetlinkMessage::NewQueueDiscipline(message)
                    | RouteNetlinkMessage::DelQueueDiscipline(message),
                ) => drop(self.requeued.insert(message.header.index.cast_unsigned())),
                _ => {}
            }
        }
        Ok(())
    }

    /// Reads links again that have other queueing disciplines.
    fn look_at_requeued(&mut self) -> Result<(), NetlinkError> {
        while let Some(index) = self.requeued.pop_first() {
            match self.netlink.link_by_index(index) {
                Ok(link) => self.put(link),
                // that it is gone is yet to be heard
                Err(NetlinkError::NoSuchLink { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Starts over after notifications were lost.
    fn catch_up(&mut self) -> Result<(), NetlinkError> {
        // what is queued is older than the dump, and what would correct it may be among the lost
        drain(&self.socket).map_err(|source| self.broken(source))?;
        self.requeued.clear();
        self.redraw()
    }

    /// Compares the picture with the kernel's.
    fn redraw(&mut self) -> Result<(), NetlinkError> {
        let present = self.netlink.links()?;
        let indexes: BTreeSet<u32> = present.iter().map(|link| link.index).collect();
        let gone: Vec<u32> =
            self.links.keys().copied().filter(|index| !indexes.contains(index)).collect();
        gone.into_iter().for_each(|index| self.take(index));
        present.into_iter().for_each(|link| self.put(link));
        Ok(())
    }

    fn put(&mut self, now: Link) {
        match self.links.insert(now.index, now.clone()) {
            None => self.pending.push_back(LinkEvent::Appeared(now)),
            Some(was) if was != now => self.pending.push_back(LinkEvent::Changed { was, now }),
            Some(_) => {}
        }
    }

    fn take(&mut self, index: u32) {
        self.pending.extend(self.links.remove(&index).map(LinkEvent::Vanished));
    }

    fn broken(&self, source: io::Error) -> NetlinkError {
        NetlinkError::Socket { namespace: self.namespace.clone(), source }
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Joins the groups of links and their queueing disciplines in the calling thread's namespace.
fn subscribe() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.set_non_blocking(true)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for group in [MulticastGroup::Link, MulticastGroup::Tc] {
        socket.add_membership(group as u32)?;
    }
    Ok(socket)
}

/// Whether a message describes a link in full. A bridge's about its ports are of another family,
/// and their `RTM_DELLINK` deletes no link; wireless drivers send some with hardly more than a
/// name (net/wireless/wext-core.c).
fn is_whole(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
        && message.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::Mtu(_)))
}
