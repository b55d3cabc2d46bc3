//! The punt pair, and the kernel's flow cache in front of it.
//!
//! The near end of the pair is where the ports are, the far end in a namespace of its own, with a
//! queue and a socket for each worker: a packet that misses on a CPU is served on it.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use millrace_abi::PortKind;
use millrace_fastpath::{
    self as fastpath, AttendError, Capacity, CaptureRing, Cgroup, Counter, Features, FlowCache,
    Left, LoadError, MapFault, MissLimit, Remote, remove_pins,
};
use millrace_netns::{
    EthtoolError, Namespace, NamespaceError, Netlink, NetlinkError, SysctlError, VethSpec,
    unique_name,
};
use millrace_sandbox::now_ns;
use millrace_tables::Frontend;
use millrace_xsk::{AttachError, AttachMode, OpenError, Program, Xsk, XskSettings};
use parking_lot::Mutex;

use crate::connections::{self, Connections, Masquerade, OwnerCounts, Zone};
use crate::control::carried::Sampler;
use crate::control::flows::FlowReader;
use crate::control::ports::Hand;
use crate::control::redecide::{Desk, Redecided, Redecider};
use crate::control::request::{Beyond, Tunnel};
use crate::control::reserve::ReservedPorts;
use crate::control::status::CacheStatus;
use crate::mailbox::{NoAnswer, Postman};
use crate::port::{Port, PortCounters, PortId};
use crate::tracking::{HandOver, Succession, Tracking, TrackingCounters, Upkeep, kernel};
use crate::worker::Worker;
use crate::xsk_io::XskIo;

/// How the kernel's flow cache, and the table of connections behind it, are made.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Room for entries.
    pub capacity: Capacity,
    /// The connections that the entries are of.
    pub connections: connections::Settings,
    /// What of the kernel may be used.
    pub features: Features,
    /// The ports that sources are masqueraded to, but for those that the host uses; they are
    /// reserved, so that the host gives them to no socket by itself.
    pub masquerade: PortRange,
    /// A folder in a BPF file system: what is there goes on when this process ends, and another
    /// one with the same folder takes it over. If there is none, all goes with the process.
    pub pins: Option<PathBuf>,
    /// How many misses of each pod workers take, and of each source outside; all, if nothing is said.
    pub miss_limit: Option<MissLimit>,
}

/// Ports from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
}

impl PortRange {
    /// Those that are for nobody in particular (RFC 6335 section 6).
    pub const DYNAMIC: Self = Self { first: 49_152, last: u16::MAX };
}

impl Default for CacheSettings {
    fn default() -> Self {
        let usual = fastpath::Settings::default();
        let connections = connections::Settings::default();
        Self {
            capacity: usual.capacity,
            connections,
            features: usual.features,
            masquerade: PortRange::DYNAMIC,
            pins: None,
            miss_limit: None,
        }
    }
}

/// Why there is no punt pair.
#[derive(Debug, thiserror::Error)]
pub enum PuntError {
    /// The cache is not in the kernel.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The cache does not take the pair.
    #[error(transparent)]
    Map(#[from] MapFault),
    /// There is no namespace for the far end.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// What a predecessor has left cannot be removed.
    #[error("`{folder}`, which a predecessor has left, cannot be removed: {cause}")]
    Left {
        /// Where it is pinned.
        folder: PathBuf,
        /// What the kernel said.
        cause: std::io::Error,
    },
    /// There is no pair.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// An offload stays on.
    #[error(transparent)]
    Offload(#[from] EthtoolError),
    /// IPv6 stays on, or ports are not reserved.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// The cache does not take a port.
    #[error(transparent)]
    Port(#[from] millrace_fastpath::AttachError),
    /// The far end does not take the program.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A socket is not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A worker is gone.
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

/// The flow cache, and the punt pair behind it. The pair is gone when this is.
pub(super) struct Punt {
    pub(super) cache: Arc<Mutex<FlowCache>>,
    connections: Arc<Connections>,
    masquerade: Arc<Masquerade>,
    upkeep: Arc<Upkeep>,
    pub(super) sampler: Arc<Sampler>,
    pub(super) ring: Arc<Mutex<CaptureRing>>,
    succession: Option<Arc<Succession>>,
    miss_limit: Option<MissLimit>,
    /// By worker.
    counted: Vec<Counted>,
    /// The near end, and its queues.
    near: (u32, u32),
    _program: Program,
    _reserved: ReservedPorts,
    // the far end goes with its namespace, and takes the near one along
    _far: Namespace,
}

/// What a worker counts.
struct Counted {
    tracking: Arc<TrackingCounters>,
    /// Of what it sends through the pair.
    sent: Arc<PortCounters>,
}

impl Punt {
    /// Makes the pair between `namespace` and a new one, and opens a socket for each worker. Misses
    /// come there at once, or, if maps may be a predecessor's, when it [takes
    /// over](Self::take_over).
    pub(super) fn open(
        settings: CacheSettings,
        namespace: &Namespace,
        workers: &[Hand],
        sockets: XskSettings,
    ) -> Result<Self, PuntError> {
        let mut cache = namespace.run(|| load(&settings))??;
        let reserved = ReservedPorts::take(settings.masquerade, settings.pins.is_some())?;
        cache.reserve(reserved.ports().iter().copied())?;
        let ring = cache.take_capture_ring().expect("nobody has taken it before");
        let ring = Arc::new(Mutex::new(ring));
        let hand_over = Arc::new(HandOver::new(cache.acks().clone()));
        let cache = Arc::new(Mutex::new(cache));
        let connections = Arc::new(Connections::new(settings.connections));
        let masquerade = Arc::new(Masquerade::new(reserved.ports().iter().copied()));
        let shared = || (Arc::clone(&connections), Arc::clone(&cache), Arc::clone(&hand_over));
        let succession = settings.pins.is_some().then(|| {
            let (connections, cache, hand_over) = shared();
            Arc::new(Succession::new(connections, cache, hand_over))
        });
        let upkeep = {
            let (connections, cache, hand_over) = shared();
            Arc::new(Upkeep::new(connections, cache, hand_over, succession.clone())?)
        };
        let track = |queue| Tracking::new(queue, &upkeep, Arc::clone(&masquerade));
        // whatever becomes of this process, the kernel takes the pair away with it
        let far = Namespace::create_nameless("punt")?;
        let queues = workers.len() as u32;
        let name = unique_name("pt");
        let spec = VethSpec::new(&name, FAR).peer_namespace(&far).mtu(MTU).queues(queues);
        let near = namespace.netlink()?.add_veth(&spec)?;
        prepare(namespace, &name)?;
        prepare(&far, FAR)?;

        let (program, counted) = far.run(|| connect(workers, sockets, &track))??;
        let sampler = Arc::new(Sampler::new(Arc::clone(&cache))?);
        let this = Self {
            upkeep,
            succession,
            sampler,
            miss_limit: settings.miss_limit,
            counted,
            near: (near.index, queues),
            cache,
            connections,
            masquerade,
            ring,
            _program: program,
            _reserved: reserved,
            _far: far,
        };
        if this.succession.is_none() {
            this.take_misses(namespace)?;
        }
        Ok(this)
    }

    /// Has misses come here from now on.
    pub(super) fn take_misses(&self, namespace: &Namespace) -> Result<(), PuntError> {
        let (near, queues) = self.near;
        Ok(namespace.run(|| self.cache.lock().punt_to(near, queues))??)
    }

    /// What goes on in another process, if anything does.
    pub(super) fn succession(&self) -> Option<&Arc<Succession>> {
        self.succession.as_ref()
    }

    /// What a predecessor has left of ports, with the numbers that entries know them by.
    pub(super) fn left(&self) -> Result<HashMap<Left, PortId>, PuntError> {
        let numbers = self.cache.lock().numbers()?;
        let known =
            |(number, left): (fastpath::PortId, Left)| Some((left, PortId::new(number.number())?));
        Ok(numbers.into_iter().filter_map(known).collect())
    }

    /// Lets go the links of a predecessor that are no ports any more, and what waits for packets
    /// that it was to send.
    pub(super) fn let_go_others(&self, namespace: &Namespace) -> Result<usize, PuntError> {
        let others = namespace.run(|| self.cache.lock().let_go_others())??;
        self.cache.lock().acks().force_others();
        Ok(others)
    }

    /// How many misses of a port were too many.
    pub(super) fn refused(&self, port: PortId) -> Result<u64, PuntError> {
        let number = fastpath::PortId::new(port.number());
        Ok(number.map_or(Ok(0), |number| self.cache.lock().refused(number))?)
    }

    /// What became of connections that came in by a port.
    pub(super) fn connections_of(&self, port: PortId) -> OwnerCounts {
        self.connections.owner(Zone::port(port.number()))
    }

    /// What has to be done about connections from time to time.
    pub(super) fn upkeep(&self) -> Arc<Upkeep> {
        Arc::clone(&self.upkeep)
    }

    /// Who decides its connections anew.
    pub(super) fn redecider(
        &self,
        desk: Arc<Desk>,
        workers: Vec<Arc<Postman<Worker<XskIo>>>>,
    ) -> Redecider<XskIo> {
        let (connections, upkeep) = (Arc::clone(&self.connections), Arc::clone(&self.upkeep));
        Redecider::new(desk, connections, upkeep, workers)
    }

    /// Who reads its connections.
    pub(super) fn flows(&self) -> FlowReader {
        FlowReader::new(Arc::clone(&self.connections), Arc::clone(&self.cache))
    }

    /// What there is to see.
    pub(super) fn status(&self) -> Result<CacheStatus, PuntError> {
        let sum = |of: fn(&TrackingCounters) -> &AtomicU64| {
            self.counted.iter().map(|worker| of(&worker.tracking).load(Relaxed)).sum()
        };
        let cache = self.cache.lock();
        let count = |counter| Ok((label(counter), cache.count(counter)?));
        Ok(CacheStatus {
            connections: self.connections.len() as u64,
            opened: sum(|counters| &counters.opened),
            installed: sum(|counters| &counters.installed),
            full: sum(|counters| &counters.full),
            refused: sum(|counters| &counters.refused),
            send_refused: self.counted.iter().map(|it| it.sent.tx_refused.load(Relaxed)).sum(),
            redecided: Redecided::default(),
            not_kept: self.succession.as_ref().map_or(0, |it| it.not_kept()),
            without_port: self.masquerade.exhaustion().into(),
            packets: Counter::ALL.into_iter().map(count).collect::<Result<_, MapFault>>()?,
        })
    }

    /// Puts the cache in front of a port, or of the node behind a tunnel.
    pub(super) fn attach(
        &self,
        namespace: &Namespace,
        port: &Port,
        beyond: Option<&Beyond>,
    ) -> Result<(), PuntError> {
        let number = kernel::number(port.id);
        let link = port.link;
        let attach = || match beyond {
            None => self.cache.lock().attach(link, number, kernel::egress(port)),
            Some(Beyond::Tunnel(Tunnel { vni, remote, owns, has, .. })) => {
                let (owns, has) = (owns.clone(), has.clone());
                let remote = Remote { link, vni: *vni, address: *remote, owns, has };
                self.cache.lock().add_remote(number, remote)
            }
            Some(Beyond::Uplink(uplink)) => {
                let gateway = port.gateway().expect("a port of the cache has one");
                let v4 = gateway.v4.map(IpAddr::V4);
                let uplink = fastpath::Uplink {
                    link,
                    gateway_mac: gateway.mac,
                    addresses: v4.into_iter().chain(gateway.v6.map(IpAddr::V6)).collect(),
                    pods: uplink.pods.clone(),
                    tunnel_port: uplink.tunnel_port,
                };
                self.cache.lock().add_uplink(number, &uplink)
            }
        };
        namespace.run(attach)??;
        let Some(limit) = self.miss_limit else { return Ok(()) };
        match port.kind {
            PortKind::Pod => Ok(self.cache.lock().limit(number, limit)?),
            // who is outside has as many as a pod, and all of them together have some times that
            PortKind::Uplink | PortKind::Remote => {
                let every = limit.every / OUTSIDERS;
                let all = MissLimit { every, burst: limit.burst.saturating_mul(OUTSIDERS) };
                Ok(self.cache.lock().limit_each(number, limit, all)?)
            }
            PortKind::Host | PortKind::Wire => Ok(()),
        }
    }

    /// Has what workers send to a port leave as it does now.
    pub(super) fn leave_by(&self, port: &Port) -> Result<(), PuntError> {
        Ok(self.cache.lock().leave_by(kernel::number(port.id), kernel::egress(port))?)
    }

    /// Claims where Services are reached from outside, in place of what was claimed before.
    pub(super) fn claim(
        &self,
        frontends: impl IntoIterator<Item = Frontend>,
    ) -> Result<(), PuntError> {
        Ok(self.cache.lock().claim(frontends.into_iter().map(of_cache))?)
    }

    /// Claims some more of them, and some no longer.
    pub(super) fn change_claims(
        &self,
        gone: impl IntoIterator<Item = Frontend>,
        new: impl IntoIterator<Item = Frontend>,
    ) -> Result<(), PuntError> {
        let mut cache = self.cache.lock();
        gone.into_iter().try_for_each(|it| cache.waive(of_cache(it)))?;
        Ok(new.into_iter().try_for_each(|it| cache.claim_also(of_cache(it)))?)
    }

    /// Attends a cgroup's processes, which reach what stands in for the node's own addresses.
    pub(super) fn attend(&self, cgroup: &Cgroup) -> Result<(), AttendError> {
        self.cache.lock().attend(cgroup)
    }

    /// Says what stands in for which, in place of what did before.
    pub(super) fn stand_in(&self, own: BTreeMap<IpAddr, IpAddr>) -> Result<(), PuntError> {
        Ok(self.cache.lock().stand_in(own)?)
    }

    /// Takes it away again.
    pub(super) fn detach(
        &self,
        namespace: &Namespace,
        port: PortId,
        link: u32,
    ) -> Result<(), PuntError> {
        namespace.run(|| {
            let mut cache = self.cache.lock();
            if !cache.remove_remote(kernel::number(port))? && !cache.remove_uplink(link)? {
                cache.detach(link)?;
            }
            Ok(())
        })?
    }

    /// Lets go all connections of a port.
    pub(super) fn forget(&self, port: PortId) -> Result<(), PuntError> {
        Ok(self.upkeep.forget_port(port.number(), now_ns())?)
    }
}

/// Loads the programs, on the maps of a predecessor if there are any that can be used.
fn load(settings: &CacheSettings) -> Result<FlowCache, PuntError> {
    let cache = fastpath::Settings { capacity: settings.capacity, features: settings.features };
    let Some(folder) = &settings.pins else { return Ok(FlowCache::load(cache)?) };
    match FlowCache::load_pinned(cache, folder) {
        Err(LoadError::OtherLayout(map)) => {
            tracing::warn!(
                map,
                folder = %folder.display(),
                "what is pinned is of another version: connections end, and begin anew"
            );
            remove_pins(folder)
                .map_err(|cause| PuntError::Left { folder: folder.clone(), cause })?;
            Ok(FlowCache::load_pinned(cache, folder)?)
        }
        outcome => Ok(outcome?),
    }
}

/// Nothing but punted packets comes and goes by an end, complete and with their tags in them.
fn prepare(namespace: &Namespace, end: &str) -> Result<(), PuntError> {
    namespace.set_sysctl(&format!("net.ipv6.conf.{end}.disable_ipv6"), "1")?;
    namespace.ethtool(end)?.disable(&["tx", "txvlan", "tx-vlan-stag-hw-insert"])?;
    Ok(namespace.netlink()?.set_up(end)?)
}

/// Opens a socket of each worker at the far end. For a thread in its namespace.
fn connect(
    workers: &[Hand],
    sockets: XskSettings,
    track: &(impl Fn(u32) -> Tracking + Sync),
) -> Result<(Program, Vec<Counted>), PuntError> {
    let link = Netlink::host()?.link(FAR)?;
    let mut program = Program::attach_in(link.index, FAR, AttachMode::Native)?;
    let mut counted = Vec::new();
    for (queue, hand) in (0..).zip(workers) {
        let socket = Xsk::open(&hand.umem, FAR, queue, sockets)?;
        let handle = socket.as_fd().try_clone_to_owned().map_err(|cause| OpenError::Refused {
            interface: FAR.to_owned(),
            queue,
            cause,
            remedy: "",
        })?;
        let (tracking, sent) = (track(queue), Arc::<PortCounters>::default());
        counted.push(Counted { tracking: tracking.counters(), sent: Arc::clone(&sent) });
        hand.postman.ask(move |worker| {
            worker.io.add_port(PortId::PUNT, vec![socket], sent);
            worker.tracking = Some(tracking);
        })?;
        // frames may come once the worker has put buffers there
        program.connect(queue, &handle)?;
    }
    Ok((program, counted))
}

fn of_cache(frontend: Frontend) -> fastpath::Frontend {
    let at = SocketAddr::new(frontend.address, frontend.port);
    fastpath::Frontend { at, protocol: frontend.protocol as u8 }
}

/// What a counter is called: its words in small letters, with hyphens.
fn label(counter: Counter) -> String {
    let mut label = String::new();
    for letter in format!("{counter:?}").chars() {
        if letter.is_ascii_uppercase() && !label.is_empty() {
            label.push('-');
        }
        label.push(letter.to_ascii_lowercase());
    }
    label
}

const FAR: &str = "punt";

/// How many times as much as one of them all sources outside have that come in by one port.
const OUTSIDERS: u32 = 2;

/// Room for any packet that fits into a frame; the driver takes no more with an XDP program.
const MTU: u32 = 3400;
