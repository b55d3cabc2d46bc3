//! Another process, by a descriptor: once that is open, nobody else is ever taken for it.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The process that listens at a socket.
#[derive(Debug)]
pub(crate) struct Process {
    /// Nothing if it is of another PID namespace.
    pid: Option<Pid>,
    /// Nothing if it cannot be had.
    descriptor: Option<OwnedFd>,
}

impl fmt::Display for Process {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(out, "process {pid}"),
            None => out.write_str("a process of another PID namespace"),
        }
    }
}

impl Process {
    /// Who listens at a socket, if anybody does.
    ///
    /// # Errors
    /// If the socket cannot be reached.
    pub(crate) fn listening_at(socket: &Path) -> io::Result<Option<Self>> {
        use io::ErrorKind::{ConnectionRefused, NotFound};
        let mut stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), NotFound | ConnectionRefused) => return Ok(None),
            Err(error) => return Err(error),
        };
        // the kernel says 0 of a process that has no number here
        let pid = Pid::from_raw(getsockopt(&stream, PeerCredentials)?.pid());
        let descriptor = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // its end would have ended the stream: so the number is still its own
        stream.set_nonblocking(true)?;
        match stream.read(&mut [0]) {
            Ok(0) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            _ => Ok(Some(Self { pid, descriptor })),
        }
    }

    /// Kills it, and returns when it is gone.
    ///
    /// # Errors
    /// If that cannot be: says who it is, and what to do.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        let Some(pid) = self.pid else {
            bail!("it is of another PID namespace: stop its container, or its unit");
        };
        let remedy = || format!("process {pid} cannot be killed: end it, and start this one again");
        if pid == rustix::process::getpid() {
            bail!("it is this very process");
        }
        let descriptor = self.descriptor.as_ref().context("the kernel has no descriptor for it");
        let descriptor = descriptor.with_context(remedy)?;
        match pidfd_send_signal(descriptor, Signal::KILL) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            outcome => outcome.with_context(remedy)?,
        }
        // the kernel takes down what it had: maps, sockets, programs
        let mut ended = [PollFd::new(descriptor, PollFlags::IN)];
        let patience = Timespec::try_from(PATIENCE).expect("it is some seconds");
        match retry_on_intr(|| poll(&mut ended, Some(&patience))) {
            Ok(0) => Err(anyhow!("the kernel is not done with it")).with_context(remedy),
            outcome => outcome.map(drop).with_context(remedy),
        }
    }
}

/// How long a killed process may take to go: the kernel waits for RCU grace periods, one socket
/// after the other, and on a busy machine each takes its time.
const PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_hangs_is_killed_and_gone_then() {
        let mut child = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        let process = Process {
            pid: Some(pid),
            descriptor: Some(pidfd_open(pid, PidfdFlags::empty()).unwrap()),
        };
        rustix::process::kill_process(pid, Signal::STOP).unwrap();
        process.kill().unwrap();
        let ended = child.try_wait().unwrap().expect("it has ended");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9));
        // once more, now that nobody has its number
        process.kill().unwrap();
    }

    #[test]
    fn who_listens_is_told_by_the_kernel_and_nobody_who_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("m.sock");
        assert!(Process::listening_at(&socket).unwrap().is_none());
        let listener = UnixListener::bind(&socket).unwrap();
        let process = Process::listening_at(&socket).unwrap().unwrap();
        assert_eq!(process.pid, Some(rustix::process::getpid()));
        assert_eq!(process.kill().unwrap_err().to_string(), "it is this very process");
        drop(listener);
        assert!(Process::listening_at(&socket).unwrap().is_none());
    }

    #[test]
    fn one_that_has_no_number_here_is_not_killed_but_named() {
        let process = Process { pid: None, descriptor: None };
        let error = process.kill().unwrap_err().to_string();
        assert!(error.contains("another PID namespace: stop its container"), "{error}");
    }
}
