//! The memory of an idle host with two ports and the bridge.
//!
//! The host is this program again, as a child that does nothing else. What it has in memory is
//! read from `/proc/<pid>/smaps`, mapping by mapping, and what the kernel keeps for its BPF maps
//! from the descriptors it holds (`/proc/<pid>/fdinfo`).

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use anyhow::{Context, Result, ensure};
use millrace_dataplane::worker::WorkerSettings;
use millrace_traffic::Core;

use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::statistics::Estimate;
use crate::unit::Unit;
use crate::veth::ground::{Ends, Ground};
use crate::veth::measure::Placement;
use crate::veth::peer::dataplane;

/// What an idle host may use.
pub const BEYOND_UMEM: Promise = Promise::at_most(
    "memory of an idle host with two ports and bridge, beyond the UMEM",
    100e6,
    Unit::Bytes,
);

/// The child.
#[derive(Clone, Debug, clap::Args)]
pub struct IdleHost {
    /// One port.
    a: String,
    /// The other one.
    b: String,
    /// Where compiled filters are kept.
    #[arg(long)]
    cache: PathBuf,
}

/// Measures a child that has carried a few packets.
///
/// # Errors
/// If it does not start, or the kernel does not say.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let ground = Ground::new(plan.named.as_ref())?;
    let [a, b] = ground.ports();
    let this = env::current_exe().context("finding this program")?;
    let cache = fs::canonicalize(&plan.cache).or_else(|_| {
        fs::create_dir_all(&plan.cache)?;
        fs::canonicalize(&plan.cache)
    })?;
    let mut command = ground.host().command(this);
    command.args(["idle-host", a, b, "--cache"]).arg(cache);
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut child = Ended(child);
    let mut word = String::new();
    let output = child.0.stdout.take().context("its output is a pipe")?;
    BufReader::new(output).read_line(&mut word)?;
    ensure!(word.trim() == READY, "the idle host does not start");
    ground.set_ends(Ends::USUAL)?;
    ground.greet()?;

    let folder = PathBuf::from("/proc").join(child.0.id().to_string());
    let read = |name: &str| fs::read_to_string(folder.join(name));
    let resident = Resident::parse(&read("smaps").context("reading its mappings")?);
    let mut bpf_maps = 0;
    for entry in fs::read_dir(folder.join("fdinfo"))? {
        // one that is closed meanwhile has nothing
        bpf_maps += map_memory(&fs::read_to_string(entry?.path()).unwrap_or_default());
    }
    ensure!(resident.umem > 0 && bpf_maps > 0, "a host has packet memory and maps");

    let beyond = resident.total() - resident.umem + bpf_maps;
    outcome.held("RSS and BPF maps, without the UMEM", &BEYOND_UMEM, exact(beyond));
    for (what, bytes) in [
        ("UMEM", resident.umem),
        ("BPF maps", bpf_maps),
        ("rings", resident.rings),
        ("compiled code", resident.code),
        ("heap, guests and stacks", resident.heap),
        ("program and libraries", resident.program),
    ] {
        outcome.found(what, Unit::Bytes, exact(bytes));
    }
    Ok(())
}

fn exact(bytes: u64) -> Estimate {
    Estimate::exact(bytes as f64)
}

/// A child that ends with this.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // it waits for the end of its input
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Is an idle host until the end of the input.
///
/// # Errors
/// If it does not start.
pub fn be_idle(options: &IdleHost) -> Result<()> {
    let core = Placement::of(&Core::available())?.carrier;
    let ports = [&*options.a, &*options.b];
    let _plane = dataplane(ports, WorkerSettings::default(), &options.cache, core)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{READY}").and_then(|()| out.flush())?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Bytes in memory, by what they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resident {
    /// Packet memory.
    pub(crate) umem: u64,
    /// The rings of sockets.
    pub(crate) rings: u64,
    /// Code that was compiled from filters.
    pub(crate) code: u64,
    /// Heap, memories of guests, stacks.
    pub(crate) heap: u64,
    /// The program, and what it is linked with.
    pub(crate) program: u64,
}

impl Resident {
    /// Adds up the mappings of `smaps` (proc_pid_smaps(5)).
    pub(crate) fn parse(smaps: &str) -> Self {
        let mut this = Self::default();
        let mut place: Option<&mut u64> = None;
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("Rss:"), Some(kilobytes)) => {
                    if let (Some(place), Ok(kilobytes)) = (&mut place, kilobytes.parse::<u64>()) {
                        **place += kilobytes * 1024;
                    }
                }
                // a mapping begins: addresses, rights, offset, device, inode, path
                (Some(first), Some(rights)) if !first.ends_with(':') => {
                    place = Some(this.place(rights, words.nth(3).unwrap_or_default()));
                }
                _ => {}
            }
        }
        this
    }

    fn place(&mut self, rights: &str, path: &str) -> &mut u64 {
        match path {
            // memory that is shared and of no file
            _ if path.starts_with("/dev/zero") => &mut self.umem,
            _ if path.starts_with("socket:") || path.starts_with("anon_inode:") => &mut self.rings,
            "" if rights.contains('x') => &mut self.code,
            _ if path.starts_with('/') => &mut self.program,
            _ => &mut self.heap,
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.umem + self.rings + self.code + self.heap + self.program
    }
}

/// Bytes that the kernel keeps for a descriptor, if that is a BPF map.
fn map_memory(info: &str) -> u64 {
    let value = |key: &str| info.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let memory = value("map_type:").and(value("memlock:"));
    memory.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

const READY: &str = "idle";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mapping_is_added_to_what_it_is_for() {
        let smaps = "\
55d0-55d1 r-xp 00001000 08:01 42                         /bin/millrace-bench
Size:                  8 kB
Rss:                   4 kB
7f00-7f01 rw-s 00000000 00:01 9                          /dev/zero (deleted)
Rss:               32768 kB
7f01-7f02 rw-p 00000000 00:00 0
Rss:                  16 kB
VmFlags: rd wr mr
7f02-7f03 r-xp 00000000 00:00 0
Rss:                   8 kB
7f03-7f04 rw-s 100000000 00:08 77                        socket:[77]
Rss:                   2 kB
7ffd-7ffe rw-p 00000000 00:00 0                          [stack]
Rss:                   1 kB
";
        let kib = |n: u64| n * 1024;
        let found = Resident::parse(smaps);
        let (umem, rings, code) = (kib(32768), kib(2), kib(8));
        assert_eq!(found, Resident { umem, rings, code, heap: kib(17), program: kib(4) });
        assert_eq!(found.total(), kib(32768 + 31));
    }

    #[test]
    fn only_maps_have_memory_of_maps() {
        let map = "pos:\t0\nflags:\t02\nmap_type:\t17\nmax_entries:\t64\nmemlock:\t896\n";
        assert_eq!(map_memory(map), 896);
        let program = "pos:\t0\nprog_type:\t6\nmemlock:\t4096\n";
        assert_eq!(map_memory(program), 0);
    }
}
