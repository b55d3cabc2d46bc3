//! What a run costs: how long each core was busy, and each thread on one.
//!
//! Cores are read from `/proc/stat`, in ticks of the kernel's clock (10 ms), work in interrupts
//! included: on veths that is most of it, and it is booked on no thread that did it. Threads are
//! read from `schedstat`, in nanoseconds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::error::TrafficError;

/// Watches the cores of the machine and the threads of a process.
#[derive(Debug)]
pub struct CpuMeter {
    process: u32,
    start: Instant,
    cores: Vec<CoreTime>,
    threads: BTreeMap<u32, (String, Duration)>,
}

/// What was used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuUse {
    /// How long was watched.
    pub elapsed: Duration,
    /// What each core of the machine did, in order.
    pub cores: Vec<CoreTime>,
    /// How long threads of the process ran, by name; those of one name together.
    pub threads: BTreeMap<String, Duration>,
}

/// What a core did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreTime {
    /// Programs and the kernel on their behalf.
    pub work: Duration,
    /// Interrupts, and what the kernel puts off from them: most of what veths do.
    pub interrupts: Duration,
    /// Taken away by whatever runs this machine, if it is a virtual one.
    pub stolen: Duration,
}

impl CpuMeter {
    /// Begins to watch this process.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn start() -> Result<Self, TrafficError> {
        Self::of(std::process::id())
    }

    /// Begins to watch another process.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn of(process: u32) -> Result<Self, TrafficError> {
        Ok(Self { process, start: Instant::now(), cores: cores()?, threads: threads(process)? })
    }

    /// What was used since. Threads that have ended meanwhile are not in it.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn stop(self) -> Result<CpuUse, TrafficError> {
        let elapsed = self.start.elapsed();
        let mut by_name = BTreeMap::new();
        for (id, (name, ran)) in threads(self.process)? {
            let before = self.threads.get(&id).map(|(_, ran)| *ran).unwrap_or_default();
            *by_name.entry(name).or_default() += ran.saturating_sub(before);
        }
        let cores = cores()?.into_iter().zip(self.cores).map(|(now, before)| now.since(before));
        Ok(CpuUse { elapsed, cores: cores.collect(), threads: by_name })
    }
}

impl CpuUse {
    /// How long all cores together were busy.
    pub fn busy(&self) -> Duration {
        self.cores.iter().map(CoreTime::busy).sum()
    }

    /// How long threads ran whose names begin so.
    pub fn of_threads(&self, prefix: &str) -> Duration {
        self.threads.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, ran)| ran).sum()
    }
}

impl CoreTime {
    /// Work and interrupts.
    pub fn busy(&self) -> Duration {
        self.work + self.interrupts
    }

    fn since(self, before: Self) -> Self {
        Self {
            work: self.work.saturating_sub(before.work),
            interrupts: self.interrupts.saturating_sub(before.interrupts),
            stolen: self.stolen.saturating_sub(before.stolen),
        }
    }
}

fn cores() -> Result<Vec<CoreTime>, TrafficError> {
    let text = read(STAT)?;
    let cores = parse_cores(&text, rustix::param::clock_ticks_per_second());
    if cores.is_empty() {
        let cause = io::Error::new(io::ErrorKind::InvalidData, "no core is in it");
        return Err(TrafficError::Proc { path: STAT.to_owned(), cause });
    }
    Ok(cores)
}

/// The lines `cpu0 user nice system idle iowait irq softirq steal …` of `/proc/stat` (proc(5)).
fn parse_cores(text: &str, ticks_per_second: u64) -> Vec<CoreTime> {
    let time = |ticks: u64| Duration::from_millis(ticks * 1000 / ticks_per_second.max(1));
    let core = |line: &str| {
        let (name, numbers) = line.split_once(' ')?;
        name.strip_prefix("cpu")?.parse::<usize>().ok()?;
        let ticks: Vec<u64> = numbers.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [user, nice, system, _idle, _wait, irq, softirq, stolen, ..] = ticks[..] else {
            return None;
        };
        Some(CoreTime {
            work: time(user + nice + system),
            interrupts: time(irq + softirq),
            stolen: time(stolen),
        })
    };
    text.lines().filter_map(core).collect()
}

/// Name and running time of each thread.
fn threads(process: u32) -> Result<BTreeMap<u32, (String, Duration)>, TrafficError> {
    let folder = format!("/proc/{process}/task");
    let entries =
        fs::read_dir(&folder).map_err(|cause| TrafficError::Proc { path: folder, cause })?;
    let thread = |entry: fs::DirEntry| {
        // one that ends meanwhile is left out
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let schedstat = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        let ran = schedstat.split(' ').next()?.parse().ok()?;
        let id = entry.file_name().to_str()?.parse().ok()?;
        Some((id, (name.trim_end().to_owned(), Duration::from_nanos(ran))))
    };
    Ok(entries.flatten().filter_map(thread).collect())
}

fn read(path: &str) -> Result<String, TrafficError> {
    fs::read_to_string(path).map_err(|cause| TrafficError::Proc { path: path.to_owned(), cause })
}

const STAT: &str = "/proc/stat";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_read_and_their_sum_is_left_out() {
        let text = "cpu  10 0 20 0 0 0 30 5 0 0\n\
                    cpu0 100 50 50 9 9 1 24 5 0 0\n\
                    cpu1 0 0 0 9 9 0 0 0 0 0\n\
                    intr 1 2 3\n";
        let seconds = Duration::from_secs_f64;
        let cores = parse_cores(text, 100);
        assert_eq!(cores.len(), 2);
        assert_eq!((cores[0].work, cores[0].interrupts), (seconds(2.0), seconds(0.25)));
        assert_eq!(cores[0].stolen, seconds(0.05));
        assert_eq!(cores[0].busy(), seconds(2.25));
        assert_eq!(cores[1], CoreTime::default());
    }

    #[test]
    fn a_busy_thread_is_found_by_its_name() {
        let (begin, begun) = std::sync::mpsc::channel::<()>();
        let (done, end) = std::sync::mpsc::channel();
        let busy = crate::core::spawn("busy-example", None, move || {
            begun.recv().expect("the test begins");
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(30) {
                std::hint::spin_loop();
            }
            done.send(()).expect("the test waits");
            let _ = begun.recv();
        });
        let meter = CpuMeter::start().expect("Linux says");
        begin.send(()).expect("the thread waits");
        end.recv().expect("the thread works");
        let used = meter.stop().expect("Linux says");
        drop(begin);
        crate::core::join(busy);
        assert!(used.of_threads("busy-example") > Duration::ZERO, "{used:?}");
        assert_eq!(used.of_threads("no-such-thread"), Duration::ZERO);
    }
}
