//! Who carries packets between the two interfaces, one at a time.

use std::any::Any;
use std::path::Path;

use anyhow::{Context, Result};
use millrace_abi::PortKind;
use millrace_dataplane::control::request::{AddPort, Load, Position, StageTerms};
use millrace_dataplane::control::{Dataplane, Settings};
use millrace_dataplane::port::{Hold, Vlans};
use millrace_dataplane::worker::WorkerSettings;
use millrace_netns::Netlink;
use millrace_traffic::Core;

use super::ground::{Ends, Ground};
use super::l2fwd::L2fwd;
use super::plane::NativePlane;
use super::redirect::Redirect;
use super::script::Script;
use crate::memory::recipe::{CHAIN, Kind, Kitchen, stages};

/// Who carries packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The dataplane with the bridge, compiled to WebAssembly.
    Millrace(Recall),
    /// The dataplane's own parts with the bridge, compiled natively.
    Native(Recall),
    /// The barest loop over the same sockets, which writes the MAC addresses of each frame.
    L2fwd,
    /// The kernel's bridge.
    KernelBridge,
    /// The kernel's XDP redirect.
    Redirect,
    /// Whoever a script brings.
    Script(Script),
}

/// Whether verdicts are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recall {
    /// They are: the chain is asked once per flow.
    Flows,
    /// They are not: it is asked about every packet.
    Nothing,
}

/// A peer in place; it goes when this is dropped.
pub struct InPlace {
    _what: Box<dyn Any>,
}

/// What peers are started with.
pub struct Start<'a> {
    /// Where.
    pub ground: &'a Ground,
    /// Where compiled filters are kept.
    pub cache: &'a Path,
    /// The core of whoever has a thread.
    pub core: Core,
}

impl Peer {
    /// All of them, in the order in which they take turns.
    pub fn all(scripts: &[Script]) -> Vec<Self> {
        let own = [
            Self::L2fwd,
            Self::Native(Recall::Flows),
            Self::Millrace(Recall::Flows),
            Self::Native(Recall::Nothing),
            Self::Millrace(Recall::Nothing),
            Self::KernelBridge,
            Self::Redirect,
        ];
        own.into_iter().chain(scripts.iter().cloned().map(Self::Script)).collect()
    }

    /// What results call it.
    pub fn label(&self) -> &str {
        match self {
            Self::Millrace(Recall::Flows) => "millrace",
            Self::Millrace(Recall::Nothing) => "millrace*",
            Self::Native(Recall::Flows) => "native",
            Self::Native(Recall::Nothing) => "native*",
            Self::L2fwd => "AF_XDP l2fwd",
            Self::KernelBridge => "kernel bridge",
            Self::Redirect => "XDP redirect",
            Self::Script(script) => &script.name,
        }
    }

    /// Whether promises speak of it.
    pub fn is_promised(&self) -> bool {
        matches!(self, Self::Millrace(_) | Self::Native(_) | Self::L2fwd)
    }

    /// Whether it works in threads of this program, so that its idle time is known.
    pub fn has_threads(&self) -> bool {
        self.is_promised()
    }

    /// Whether it has an XDP program at the ports, whose veths then take no frames that are still
    /// to be split.
    pub fn takes_single_frames(&self) -> bool {
        self.is_promised() || *self == Self::Redirect
    }

    /// What the ends have to be like, for packets that somebody `reads` and for those that nobody
    /// does.
    pub fn ends(&self, reads: bool) -> Ends {
        match self {
            Self::L2fwd => Ends { leave_checksums: !reads, ..Ends::USUAL },
            Self::Redirect => Ends { leave_checksums: !reads, gather: true },
            _ => Ends::USUAL,
        }
    }

    /// Puts it in place.
    ///
    /// # Errors
    /// If it cannot be.
    pub fn start(&self, start: &Start<'_>) -> Result<InPlace> {
        let placed = start.ground.host().run(|| self.start_here(start))?;
        Ok(InPlace { _what: placed.with_context(|| format!("starting `{}`", self.label()))? })
    }

    /// In the namespace of the calling thread.
    fn start_here(&self, start: &Start<'_>) -> Result<Box<dyn Any + Send>> {
        let (ports, core) = (start.ground.ports(), start.core);
        Ok(match self {
            Self::Millrace(recall) => {
                Box::new(dataplane(ports, recall.worker(), start.cache, core)?)
            }
            Self::Native(recall) => {
                // gone when the worker starts: its engine has a clock that would tick along
                let settings = millrace_sandbox::Settings { cache: Some(start.cache.into()) };
                let bridge = Kitchen::new(&settings)?.make(Kind::Native, &CHAIN[0])?;
                Box::new(NativePlane::start(ports, stages(vec![bridge]), recall.worker(), core)?)
            }
            Self::L2fwd => Box::new(L2fwd::start(ports, start.ground.stations()?, core)?),
            Self::KernelBridge => Box::new(KernelBridge::start(ports)?),
            Self::Redirect => Box::new(Redirect::start(ports)?),
            Self::Script(script) => Box::new(script.raise(start.ground)?),
        })
    }
}

impl Recall {
    fn worker(self) -> WorkerSettings {
        WorkerSettings { cache: self == Self::Flows, ..WorkerSettings::default() }
    }
}

/// A dataplane with the bridge, in the namespace of the calling thread.
///
/// # Errors
/// If it does not start.
pub fn dataplane(
    ports: [&str; 2],
    worker: WorkerSettings,
    cache: &Path,
    core: Core,
) -> Result<Dataplane> {
    let cores = Some(vec![core.number()]);
    let settings = Settings { worker, cores, cache: Some(cache.into()), ..Settings::default() };
    let plane = Dataplane::start(&settings)?;
    plane.load(bridge()?)?;
    for port in ports {
        let (interface, kind) = (port.to_owned(), PortKind::Wire);
        plane.add_port(AddPort {
            interface,
            kind,
            vlans: Vlans::transparent(),
            hold: Hold::Direct,
            beyond: None,
        })?;
    }
    Ok(plane)
}

/// The bridge, as it is loaded by default.
///
/// # Errors
/// If it is not built in.
pub fn bridge() -> Result<Load> {
    built_in("bridge")
}

/// A built-in filter, without a configuration.
///
/// # Errors
/// If it is not built in.
pub fn built_in(name: &str) -> Result<Load> {
    let module = millrace_builtin::find(name);
    let module = module.with_context(|| format!("no `{name}` is built in"))?;
    Ok(Load {
        name: name.to_owned(),
        module: module.bytes.to_vec(),
        config: "{}".to_owned(),
        position: Position::Last,
        terms: StageTerms::default(),
    })
}

/// A bridge of the kernel with the two interfaces; it is deleted when this is dropped.
struct KernelBridge {
    net: Netlink,
}

impl KernelBridge {
    fn start(ports: [&str; 2]) -> Result<Self> {
        let this = Self { net: Netlink::host()? };
        this.net.add_bridge(BRIDGE)?;
        for port in ports {
            this.net.enslave(port, BRIDGE)?;
        }
        this.net.set_up(BRIDGE)?;
        Ok(this)
    }
}

impl Drop for KernelBridge {
    fn drop(&mut self) {
        if let Err(error) = self.net.delete_link(BRIDGE) {
            eprintln!("the bridge stays: {error}");
        }
    }
}

const BRIDGE: &str = "bench-bridge";
