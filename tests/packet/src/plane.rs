//! A dataplane in memory whose books are closed when a test is over: the worker lives, every
//! frame is back in the pool, and every packet that came in has had one fate.

use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use millrace_dataplane::control::MemoryPlane;
use millrace_dataplane::control::status::StageStatus;
use millrace_dataplane::counters::Fate;
use millrace_dataplane::port::Vlans;
use millrace_dataplane::worker::WorkerSettings;
use millrace_sandbox::{Sandbox, Settings};

/// A dataplane in memory. It fails the test that drops it if the books do not balance.
pub struct Plane {
    inner: MemoryPlane,
    /// Frames in the pool when nothing is on its way.
    frames: usize,
    /// Fates of what did not come in: copies and filters' own frames that could not be sent.
    extra: u64,
}

/// A dataplane with these transparent ports.
pub fn plane(ports: &[&str]) -> Plane {
    plane_with(ports, WorkerSettings::default())
}

/// A dataplane with these transparent ports, and settings.
pub fn plane_with(ports: &[&str], settings: WorkerSettings) -> Plane {
    let ports: Vec<_> = ports.iter().map(|&name| (name, Vlans::transparent())).collect();
    Plane::new(sandbox(), &ports, settings)
}

/// A dataplane with these ports, each with its VLANs as in `trunk:10+20`.
///
/// # Panics
/// If a text is no set of VLANs.
pub fn plane_of(sandbox: Arc<Sandbox>, ports: &[(&str, &str)]) -> Plane {
    let vlans = |text: &str| text.parse().unwrap_or_else(|error| panic!("{error}"));
    let ports: Vec<(&str, Vlans)> = ports.iter().map(|&(name, text)| (name, vlans(text))).collect();
    Plane::new(sandbox, &ports, WorkerSettings::default())
}

/// A dataplane with these transparent ports, whose filters run in this sandbox.
pub fn plane_in(sandbox: Arc<Sandbox>, ports: &[&str]) -> Plane {
    let ports: Vec<_> = ports.iter().map(|&name| (name, Vlans::transparent())).collect();
    Plane::new(sandbox, &ports, WorkerSettings::default())
}

/// A sandbox of its own: host maps are a node's, and tests must not share them.
///
/// # Panics
/// If the engine does not start.
pub fn sandbox() -> Arc<Sandbox> {
    Arc::new(Sandbox::new(&Settings::default()).expect("the engine starts"))
}

/// A sandbox of its own that keeps compiled code in `folder`, for tests that need very many.
///
/// # Panics
/// If the engine does not start.
pub fn sandbox_with(folder: &Path) -> Arc<Sandbox> {
    let settings = Settings { cache: Some(folder.to_owned()) };
    Arc::new(Sandbox::new(&settings).expect("the engine starts"))
}

impl Plane {
    /// A dataplane with these ports.
    pub fn new(sandbox: Arc<Sandbox>, ports: &[(&str, Vlans)], settings: WorkerSettings) -> Self {
        let inner = MemoryPlane::new(sandbox, ports, settings);
        let frames = inner.run(|worker| worker.io.free());
        Self { inner, frames, extra: 0 }
    }

    /// Says that `packets` more have a fate than came in.
    pub fn counts_more(&mut self, packets: u64) {
        self.extra += packets;
    }

    /// The stage of that name.
    ///
    /// # Panics
    /// If there is none.
    pub fn stage(&self, name: &str) -> StageStatus {
        let stages = self.inner.stages.status().expect("the worker lives as long as the plane");
        let found = stages.into_iter().find(|stage| stage.name == name);
        found.unwrap_or_else(|| panic!("there is no stage `{name}`"))
    }

    /// What became of packets so far, without those that had no such fate.
    pub fn tally(&self) -> Vec<(Fate, u64)> {
        let mut tally: Vec<(Fate, u64)> = Vec::new();
        for (key, packets) in self.inner.fates() {
            match tally.iter_mut().find(|(fate, _)| *fate == key.fate) {
                Some((_, total)) => *total += packets,
                None => tally.push((key.fate, packets)),
            }
        }
        tally.sort();
        tally
    }

    fn received(&self) -> u64 {
        self.inner.run(|worker| {
            let received =
                |held: &millrace_dataplane::port::HeldPort| held.counters.rx_packets.load(Relaxed);
            worker.ports.iter().map(received).sum()
        })
    }
}

impl Deref for Plane {
    type Target = MemoryPlane;

    fn deref(&self) -> &MemoryPlane {
        &self.inner
    }
}

impl DerefMut for Plane {
    fn deref_mut(&mut self) -> &mut MemoryPlane {
        &mut self.inner
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        if thread::panicking() {
            return;
        }
        let free = self.inner.run(|worker| worker.io.free());
        assert_eq!(free, self.frames, "every frame is back in the pool");
        let fates: u64 = self.inner.fates().values().sum();
        assert_eq!(fates, self.received() + self.extra, "every packet has had one fate");
    }
}
