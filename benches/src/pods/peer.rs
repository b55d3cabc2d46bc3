//! Who carries packets between the pods, one at a time.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use millrace_abi::PortKind;
use millrace_dataplane::control::request::{AddPort, Load};
use millrace_dataplane::control::{CacheSettings, Dataplane, Settings};
use millrace_dataplane::port::{Gateway, Hold, Station, Vlans};
use millrace_dataplane::worker::WorkerSettings;
use millrace_filter::prelude::MacAddr;
use millrace_traffic::{Core, End};
use serde_json::{Value, json};

use super::routed::Routed;
use super::{GATEWAY_ADDRESS, POD_LINK};
use crate::traffic::Places;
use crate::veth::ground::{Ends, Ground};
use crate::veth::peer::{InPlace, Peer as OnVeths, Start, bridge};

/// Who carries packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// The dataplane, with the pods behind the kernel's flow cache.
    Millrace(Workers),
    /// The kernel's bridge.
    KernelBridge,
    /// The kernel's router, with connection tracking.
    Routed,
}

/// Where the workers of the dataplane are, and what they do when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workers {
    /// One on each core, asleep: what a node has.
    Everywhere,
    /// One on another core than the sender's, asleep.
    ApartAsleep,
    /// The same, always looking for packets.
    ApartSpinning,
}

/// A pod, and its port in the host.
#[derive(Clone, Copy)]
pub(crate) struct Pod<'g> {
    /// The port's interface.
    pub(crate) port: &'g str,
    /// The pod.
    pub(crate) end: End<'g>,
}

/// A peer in place; it goes when this is dropped.
pub enum Placed {
    /// The dataplane.
    Millrace(Dataplane),
    /// The kernel's bridge.
    Bridge(InPlace),
    /// The kernel's router.
    Routed(Routed),
}

impl Peer {
    /// All of them, in the order in which they take turns.
    pub const ALL: [Self; 5] = [
        Self::Millrace(Workers::Everywhere),
        Self::KernelBridge,
        Self::Routed,
        Self::Millrace(Workers::ApartAsleep),
        Self::Millrace(Workers::ApartSpinning),
    ];

    /// What results call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Millrace(Workers::Everywhere) => "millrace",
            Self::Millrace(Workers::ApartAsleep) => "millrace, worker apart and asleep",
            Self::Millrace(Workers::ApartSpinning) => "millrace, worker apart and spinning",
            Self::KernelBridge => "kernel bridge",
            Self::Routed => "ip_forward + conntrack",
        }
    }

    /// Puts it in place, and lets a packet pass in each direction.
    ///
    /// # Errors
    /// If it cannot be, or nothing passes.
    pub fn start(self, ground: &Ground, cache: &Path, places: Places) -> Result<Placed> {
        let placed = self.place(ground, cache, places);
        let placed = placed.with_context(|| format!("starting `{}`", self.label()))?;
        ground.set_ends(Ends::USUAL).context("preparing the pods")?;
        ground.greet()?;
        Ok(placed)
    }

    fn place(self, ground: &Ground, cache: &Path, places: Places) -> Result<Placed> {
        Ok(match self {
            Self::Millrace(workers) => {
                let flow_cache = CacheSettings::default();
                Placed::Millrace(dataplane(ground, cache, workers, places, flow_cache)?)
            }
            Self::KernelBridge => {
                let start = Start { ground, cache, core: places.apart };
                Placed::Bridge(OnVeths::KernelBridge.start(&start)?)
            }
            Self::Routed => Placed::Routed(Routed::start(ground)?),
        })
    }
}

impl Placed {
    /// Packets that came to user space so far; `None` for those that have nothing there.
    ///
    /// # Errors
    /// If a worker is gone.
    pub fn punted(&self) -> Result<Option<u64>> {
        match self {
            Self::Millrace(plane) => {
                let ports = plane.ports()?;
                Ok(Some(ports.iter().map(|port| port.counters.rx_packets).sum()))
            }
            Self::Bridge(_) | Self::Routed(_) => Ok(None),
        }
    }
}

/// A node's dataplane, whose bridge knows the pods.
pub(crate) fn dataplane(
    ground: &Ground,
    cache: &Path,
    workers: Workers,
    places: Places,
    flow_cache: CacheSettings,
) -> Result<Dataplane> {
    let plane = without_filters(ground, cache, workers, places, flow_cache)?;
    plane.load(bridge_of(pods(ground), &plane)?)?;
    Ok(plane)
}

/// A node's dataplane, which holds the pods' ports and has no chain yet.
pub(crate) fn without_filters(
    ground: &Ground,
    cache: &Path,
    workers: Workers,
    places: Places,
    flow_cache: CacheSettings,
) -> Result<Dataplane> {
    let (cores, spin) = match workers {
        Workers::Everywhere => (Core::available(), Duration::ZERO),
        Workers::ApartAsleep => (vec![places.apart], Duration::ZERO),
        Workers::ApartSpinning => (vec![places.apart], EVER),
    };
    let settings = Settings {
        workers: cores.len(),
        cores: Some(cores.into_iter().map(Core::number).collect()),
        worker: WorkerSettings { spin, ..WorkerSettings::default() },
        cache: Some(cache.into()),
        flow_cache: Some(flow_cache),
        ..Settings::default()
    };
    let plane = ground.host().run(|| Dataplane::start(&settings))??;
    pods(ground).into_iter().try_for_each(|pod| hold(&plane, pod))?;
    Ok(plane)
}

/// The pods of a ground.
pub(crate) fn pods(ground: &Ground) -> [Pod<'_>; 2] {
    let ([near, far], ends) = (ground.ports(), [ground.near(), ground.far()]);
    [Pod { port: near, end: ends[0] }, Pod { port: far, end: ends[1] }]
}

/// Has the dataplane hold a pod's port.
pub(crate) fn hold(plane: &Dataplane, pod: Pod<'_>) -> Result<()> {
    plane.add_port(AddPort {
        interface: pod.port.to_owned(),
        kind: PortKind::Pod,
        vlans: Vlans::access(0),
        hold: Hold::Cached(Station { mac: mac(pod.end)?, gateway: GATEWAY }),
        beyond: None,
    })?;
    Ok(())
}

/// The bridge, which knows these pods: what it decides of them holds.
pub(crate) fn bridge_of<'g>(
    pods: impl IntoIterator<Item = Pod<'g>>,
    plane: &Dataplane,
) -> Result<Load> {
    let ports = plane.ports()?;
    let known = |Pod { port: name, end }: Pod<'_>| -> Result<Value> {
        let port = ports.iter().find(|port| port.name == name).context("it was just added")?;
        let mac = MacAddr(mac(end)?).to_string();
        Ok(json!({ "port": port.id.number(), "mac": mac, "addresses": [end.address] }))
    };
    let pods = pods.into_iter().map(known).collect::<Result<Vec<_>>>()?;
    Ok(Load { config: json!({ "pods": pods }).to_string(), ..bridge()? })
}

/// The MAC address of a pod.
pub(crate) fn mac(pod: End<'_>) -> Result<[u8; 6]> {
    let link = pod.namespace.netlink()?.link(POD_LINK)?;
    link.mac.context("a pod's interface has a MAC address")
}

/// Longer than a sample.
const EVER: Duration = Duration::from_secs(3600);
/// What pods know the dataplane by.
pub(crate) const GATEWAY: Gateway =
    Gateway { mac: [2, 0, 0, 0, 0, 0xfe], v4: Some(GATEWAY_ADDRESS), v6: None };
