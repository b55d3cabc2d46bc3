//! Where a worker sleeps: sockets wake it, and whoever wants something of it.
//!
//! Sockets stay registered, and say once that something came (`EPOLLET`): whoever sleeps has found
//! all of them empty before, so nothing is slept over. To ask each of them anew (`poll`) takes longer
//! the more there are, and a worker sleeps after every connection that is opened alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;

/// What one worker sleeps on.
pub(crate) struct Sleep {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
    /// Whether there is a socket that wakes nobody.
    is_deaf: bool,
}

impl Sleep {
    /// With nothing but the waker.
    ///
    /// # Errors
    /// If the kernel gives no descriptors.
    pub(crate) fn new() -> Result<Self, Errno> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        add(&epoll, &wake)?;
        Ok(Self { epoll, wake: Arc::new(wake), is_deaf: false })
    }

    /// Ends a sleep, or the next one, from anywhere.
    pub(crate) fn waker(&self) -> impl Fn() + Send + Sync + 'static {
        let wake = Arc::clone(&self.wake);
        move || {
            // every write is an event, so nobody need read it, and it is never full
            let _ = rustix::io::write(&wake, &1u64.to_ne_bytes());
        }
    }

    /// Has what comes in at a socket end sleeps, until it is closed.
    pub(crate) fn watch(&mut self, socket: &impl AsFd) {
        if let Err(error) = add(&self.epoll, socket) {
            tracing::warn!(%error, "a socket wakes no worker: it is looked at once in a millisecond");
            self.is_deaf = true;
        }
    }

    /// Sleeps for `timeout` at most, to the millisecond, or until there is room again in one of the
    /// sockets that are `full`.
    pub(crate) fn sleep<'a>(&self, timeout: Duration, full: impl Iterator<Item = BorrowedFd<'a>>) {
        let timeout = if self.is_deaf { timeout.min(DEAF) } else { timeout };
        let timeout = Timespec::try_from(timeout).ok();
        let mut full = full.peekable();
        // an interrupted sleep is a short one
        if full.peek().is_none() {
            let _ = epoll::wait(&self.epoll, &mut [NO_EVENT; EVENTS], timeout.as_ref());
            return;
        }
        let mut fds = vec![PollFd::from_borrowed_fd(self.epoll.as_fd(), PollFlags::IN)];
        fds.extend(full.map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::OUT)));
        let _ = poll(&mut fds, timeout.as_ref());
    }
}

fn add(epoll: &OwnedFd, source: &impl AsFd) -> Result<(), Errno> {
    epoll::add(epoll, source, EventData::new_u64(0), EventFlags::IN | EventFlags::ET)
}

/// How long a worker sleeps that something comes to unheard.
const DEAF: Duration = Duration::from_millis(1);
/// Events taken at once; who they are of is not asked.
const EVENTS: usize = 8;
const NO_EVENT: epoll::Event =
    epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn slept(sleep: &Sleep, timeout: Duration) -> bool {
        let start = Instant::now();
        sleep.sleep(timeout, std::iter::empty());
        start.elapsed() >= timeout
    }

    #[test]
    fn every_call_of_the_waker_ends_one_sleep() {
        let sleep = Sleep::new().unwrap();
        let wake = sleep.waker();
        for _ in 0..3 {
            wake();
            assert!(!slept(&sleep, LONG));
            assert!(slept(&sleep, Duration::from_millis(2)), "it was told already");
        }
    }

    #[test]
    fn what_was_there_before_ends_a_sleep_and_what_comes_later_another() {
        let (near, far) = UnixDatagram::pair().unwrap();
        far.send(&[1]).unwrap();
        let mut sleep = Sleep::new().unwrap();
        sleep.watch(&near);
        assert!(!slept(&sleep, LONG));
        near.recv(&mut [0]).unwrap();
        assert!(slept(&sleep, Duration::from_millis(2)), "nothing else came");
        far.send(&[1]).unwrap();
        assert!(!slept(&sleep, LONG));
    }

    #[test]
    fn room_in_a_full_socket_ends_a_sleep() {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        while near.write(&[0; 4096]).is_ok() {}
        let sleep = Sleep::new().unwrap();
        let sleeps = |timeout| {
            let start = Instant::now();
            sleep.sleep(timeout, std::iter::once(near.as_fd()));
            start.elapsed() >= timeout
        };
        assert!(sleeps(Duration::from_millis(2)), "it is full");
        while far.read(&mut [0; 4096]).is_ok() {}
        assert!(!sleeps(LONG));
    }
}
