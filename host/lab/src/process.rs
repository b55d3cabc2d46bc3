//! Programs that outlive whoever started them, and are ended by somebody else.
//!
//! Owns two promises. Nothing runs that is not written down: a program waits at a gate, a shell
//! that reads a line, until it is; if whoever starts it is killed before, the gate sees the end of
//! its input and ends. And nobody else is ended: a process is known by its number and the moment
//! it started (proc(5), `starttime`), since numbers are used again.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use millrace_netns::Namespace;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process, and no other that may have its number one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its number, which is also that of its process group.
    pub pid: i32,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

/// A program that waits until it may run.
pub(crate) struct Gated {
    child: Child,
    pub(crate) process: Process,
}

impl Process {
    /// Whether it runs, and is not just waiting to be waited for.
    pub fn is_running(&self) -> bool {
        stat(self.pid)
            .is_some_and(|(state, start)| start == self.start_time && !matches!(state, 'Z' | 'X'))
    }

    /// A descriptor of it, if it runs.
    fn open(self) -> Option<(Self, OwnedFd)> {
        let pid = Pid::from_raw(self.pid)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // now that it is held, it is the one or is not
        self.is_running().then_some((self, descriptor))
    }
}

impl Gated {
    /// Starts a program in a namespace, up to its gate. What it says goes into a log.
    pub(crate) fn start(
        namespace: &Namespace,
        program: &[impl AsRef<OsStr>],
        environment: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
        log: &Path,
    ) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command: Command = namespace.command("sh");
        command.args(["-c", GATE, "sh"]).args(program).envs(environment);
        // Ctrl-C is for whoever is at the terminal, and a group is ended as one
        command.process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn()?;
        let pid = child.id() as i32;
        let (_, start_time) = stat(pid).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { child, process: Process { pid, start_time } })
    }

    /// Lets it run. The child is for whoever can wait for it.
    pub(crate) fn open(mut self) -> io::Result<Child> {
        let mut gate = self.child.stdin.take().expect("it was piped");
        gate.write_all(b"go\n")?;
        Ok(self.child)
    }
}

/// Ends processes with what they have started: in order, and after some patience for good.
///
/// # Errors
/// The first that does not end.
pub(crate) fn end(processes: impl IntoIterator<Item = Process>) -> Result<(), Process> {
    let mut running: VecDeque<_> = processes.into_iter().filter_map(Process::open).collect();
    for (signal, patience) in [(Signal::TERM, PATIENCE), (Signal::KILL, TAKEDOWN)] {
        for (process, descriptor) in &running {
            signal_all(*process, descriptor, signal);
        }
        let deadline = Instant::now() + patience;
        running.retain(|(_, descriptor)| !has_ended(descriptor, deadline));
    }
    running.pop_front().map_or(Ok(()), |(process, _)| Err(process))
}

/// Kills processes with what they have started, and waits until they are gone.
///
/// # Errors
/// The first that does not end.
pub(crate) fn kill(processes: impl IntoIterator<Item = Process>) -> Result<(), Process> {
    let running: Vec<_> = processes.into_iter().filter_map(Process::open).collect();
    for (process, descriptor) in &running {
        signal_all(*process, descriptor, Signal::KILL);
    }
    let deadline = Instant::now() + TAKEDOWN;
    let undying = running.iter().find(|(_, descriptor)| !has_ended(descriptor, deadline));
    undying.map_or(Ok(()), |(process, _)| Err(*process))
}

/// Signals the group of a process that runs, and the process.
fn signal_all(process: Process, descriptor: &OwnedFd, signal: Signal) {
    // one that has just ended is what is wanted; the group goes first, while its leader is there
    if process.is_running()
        && let Some(group) = Pid::from_raw(process.pid)
    {
        let _ = kill_process_group(group, signal);
    }
    let _ = pidfd_send_signal(descriptor, signal);
}

/// Waits for the end of a process.
fn has_ended(process: &OwnedFd, deadline: Instant) -> bool {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).expect("patience is short");
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left)) {
            Err(Errno::INTR) => {}
            outcome => return outcome.is_ok_and(|ready| ready > 0),
        }
    }
}

/// Its state, and when it started.
fn stat(pid: i32) -> Option<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name before may contain anything
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(START_TIME)?.parse().ok()?))
}

/// Goes on when told to, as the program itself: number and starting time stay.
const GATE: &str = "read -r go && exec \"$@\" </dev/null";
/// How long a process may take to end by itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the kernel may take to end one: it takes down sockets, maps and programs, and waits for all
/// cores to have left each of them.
const TAKEDOWN: Duration = Duration::from_secs(60);
/// Counted behind the state.
const START_TIME: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    fn gated(script: &str, log: &Path) -> Gated {
        let here = Namespace::current().unwrap();
        Gated::start(&here, &["sh", "-c", script], [("GREETING", "hello")], log).unwrap()
    }

    /// Waits until a log has a line.
    fn await_line(log: &Path) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let text = fs::read_to_string(log).unwrap();
            if let Some((line, _)) = text.split_once('\n') {
                return line.to_owned();
            }
            assert!(Instant::now() < deadline, "no line comes");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_is_at_its_gate_until_it_is_let_go_and_then_the_same_process() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let gated = gated("echo $GREETING $$; exec sleep 600", &log);
        let process = gated.process;
        assert!(process.is_running());
        assert_eq!(fs::read_to_string(&log).unwrap(), "");
        let mut child = gated.open().unwrap();
        assert_eq!(await_line(&log), format!("hello {}", process.pid));
        assert!(process.is_running());
        end([process]).unwrap();
        assert!(!process.is_running());
        child.wait().unwrap();
    }

    #[test]
    fn a_program_whose_starter_is_gone_never_runs() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut gated = gated("echo ran", &log);
        drop(gated.child.stdin.take());
        assert!(!gated.child.wait().unwrap().success());
        assert_eq!(fs::read_to_string(&log).unwrap(), "");
    }

    #[test]
    fn what_a_program_has_started_and_does_not_listen_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let gated = gated("trap '' TERM; sleep 600 & echo $!; wait; wait", &log);
        let process = gated.process;
        let mut child = gated.open().unwrap();
        let grandchild: i32 = await_line(&log).parse().unwrap();
        let (_, start_time) = stat(grandchild).unwrap();
        end([process]).unwrap();
        child.wait().unwrap();
        let grandchild = Process { pid: grandchild, start_time };
        let deadline = Instant::now() + Duration::from_secs(60);
        while grandchild.is_running() {
            assert!(Instant::now() < deadline, "it still runs");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_process_that_has_the_number_of_another_is_left_alone() {
        let mut child = Command::new("sleep").arg("600").process_group(0).spawn().unwrap();
        let (_, start_time) = stat(child.id() as i32).unwrap();
        let other = Process { pid: child.id() as i32, start_time: start_time + 1 };
        assert!(!other.is_running());
        end([other]).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
