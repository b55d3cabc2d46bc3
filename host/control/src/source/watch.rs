//! Waits until something in a directory has changed.
//!
//! Owns the kernel's inotify (inotify(7)). A change counts when a file is closed after it was
//! written to, so that nobody reads half of it. Many changes at once, as an editor or `cp` make
//! them, are one: after the first, the directory has to be quiet for a moment.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// A directory that is watched.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
}

/// What has come of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Something has changed.
    Changed,
    /// Nothing has, for as long as one was willing to wait.
    Unchanged,
}

impl Watch {
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(&inotify, directory, CHANGES | WatchFlags::ONLYDIR)?;
        Ok(Self { inotify })
    }

    /// Waits for a change; what happened since the last call counts, too.
    ///
    /// # Errors
    /// If the directory itself is gone; what it said last is then the last there is.
    pub fn wait(&mut self, patience: Option<Duration>) -> io::Result<Waited> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        while !self.poll(deadline)? {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(Waited::Unchanged);
            }
        }

        // whoever changes one file may be about to change another, but not for ever
        let end = Instant::now() + LONGEST_UNREST;
        loop {
            self.drain()?;
            let quiet = Instant::now() + QUIET;
            if !self.poll(Some(quiet.min(end)))? || Instant::now() >= end {
                return Ok(Waited::Changed);
            }
        }
    }

    /// Whether there is a change to be read before the deadline.
    fn poll(&self, deadline: Option<Instant>) -> io::Result<bool> {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec::try_from(left).expect("nobody waits that long"));
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], left.as_ref()) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes what has happened so far.
    fn drain(&self) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) if event.events().intersects(GONE) => {
                    let gone = "the directory of the manifests is gone";
                    return Err(io::Error::new(io::ErrorKind::NotFound, gone));
                }
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Watch {
    /// Readable as soon as something has changed, for whoever waits for other things as well.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// What changes a manifest. `CREATE` is for links, which nobody writes to.
const CHANGES: WatchFlags = WatchFlags::CLOSE_WRITE
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);
const GONE: ReadFlags =
    ReadFlags::DELETE_SELF.union(ReadFlags::MOVE_SELF).union(ReadFlags::IGNORED);
/// How long nothing has to happen.
const QUIET: Duration = Duration::from_millis(50);
/// How long one waits for that.
const LONGEST_UNREST: Duration = Duration::from_secs(1);
/// For some events, each with a name of 255 bytes at most.
const BUFFER: usize = 4096;
