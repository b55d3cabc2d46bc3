//! The links that are ports, and the punt pair.
//!
//! Owns what holds the programs where they are. Works in the network namespace of the calling
//! thread, as dropping the cache does.
//!
//! A reader must not break this: what user space sends never comes back to it. So the punt pair's
//! near end is no port, and no port gives its packets to another port's tc ingress.

use std::collections::HashMap;
use std::error::Error;
use std::io::ErrorKind;
use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::LinkOrder;
use aya::programs::ProgramError;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError, qdisc_add_clsact,
};

use crate::cache::{MapFault, ON_PORTS, ON_PUNT, ON_TUNNEL, ON_UPLINK, fault, program};
use crate::entries::if_there;
use crate::layout::{RawEgress, RawFilter, RawLimit, RawPunt, RawShare};
use crate::pins::{Held, HoldError, left_filter, name_of, pinned_link};
use crate::tunnels::Tunnels;
use crate::uplinks::Uplinks;
use crate::{Egress, FlowCache, PortId};

/// What holds the programs where they are.
#[derive(Default)]
pub(crate) struct Links {
    ports: HashMap<u32, Port>,
    punt: Option<(u32, Held)>,
    pub(crate) tunnels: Tunnels,
    pub(crate) uplinks: Uplinks,
}

struct Port {
    id: PortId,
    egress: Egress,
    held: Held,
}

/// How many misses of a port user space takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissLimit {
    /// One in this time, in the long run.
    pub every: Duration,
    /// So many at once, after a while without.
    pub burst: u32,
}

impl MissLimit {
    fn raw(&self) -> RawShare {
        let interval = nanoseconds(self.every).clamp(1, LONGEST);
        RawShare { interval, credit: interval.saturating_mul(self.burst.into()).min(LONGEST) }
    }
}

impl FlowCache {
    /// Makes the link with this index a port: what it receives is the cache's, and no longer the
    /// host's. What user space sends to the port leaves by `egress`. Programs of others on the
    /// same hook stay.
    ///
    /// Without [`tcx`](crate::Features::tcx) the link keeps an empty `clsact` qdisc, which others
    /// may use.
    ///
    /// # Errors
    /// If the link or the id is in use, or the kernel refuses.
    pub fn attach(&mut self, link: u32, port: PortId, egress: Egress) -> Result<(), AttachError> {
        self.links.admit(link, port, egress)?;
        let at = u32::from(port.number());
        // a predecessor may have known it by another number; by this one, it goes on
        if if_there(self.ports.get(&link, 0))? != Some(at) {
            self.forget_left(link)?;
        }
        self.ports.insert(link, at, 0).map_err(MapFault)?;
        self.egresses.set(at, RawEgress::from(egress), 0).map_err(MapFault)?;
        match self.hold(ON_PORTS, link) {
            Ok(held) => {
                self.links.ports.insert(link, Port { id: port, egress, held });
                Ok(())
            }
            Err(error) => {
                self.forget(link, port)?;
                Err(error)
            }
        }
    }

    /// Ends what [`attach`](Self::attach) began; says whether the link was a port. Its entries
    /// stay: remove them before an address or the port's id is given to another.
    ///
    /// A link that was deleted meanwhile is forgotten all the same.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn detach(&mut self, link: u32) -> Result<bool, MapFault> {
        let Some(port) = self.links.ports.remove(&link) else { return Ok(false) };
        self.release(link, port.held)?;
        self.forget(link, port.id)?;
        Ok(true)
    }

    /// Sends misses to the punt pair whose near end is the link with this index, and that has so
    /// many queues; and takes from it what user space sends to ports. Before this, misses are
    /// dropped. Again with another pair, the first one is let go.
    ///
    /// # Errors
    /// If the link is a port, or the kernel refuses.
    pub fn punt_to(&mut self, link: u32, queues: u32) -> Result<(), AttachError> {
        if self.links.has(link) && !self.links.is_punt(link) {
            return Err(AttachError::IsPort(link));
        }
        let held = match self.links.punt.take_if(|(there, _)| *there == link) {
            Some((_, held)) => held,
            None => self.hold(ON_PUNT, link)?,
        };
        let former = self.links.punt.replace((link, held));
        let until = self.punt.get(&0, 0).map_err(MapFault)?.until;
        self.punt.set(0, RawPunt { ifindex: link, queues, until }, 0).map_err(MapFault)?;
        if let Some((link, held)) = former {
            self.release(link, held)?;
        }
        Ok(())
    }

    /// Lets go the links of a predecessor that were not attached again; says how many there were.
    /// For when the predecessor has ended, and this cache has all its ports and its punt pair.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn let_go_others(&mut self) -> Result<usize, MapFault> {
        let Some(pins) = self.pins.clone() else { return Ok(0) };
        let mut others = 0;
        for (name, link) in
            pins.links([ON_PORTS, ON_TUNNEL, ON_UPLINK, ON_PUNT]).map_err(fault("readdir"))?
        {
            if !self.links.has(link) {
                std::fs::remove_file(pins.link(name, link)).map_err(fault("unlink"))?;
                self.forget_link(link)?;
                others += 1;
            }
        }
        let filters: Result<Vec<_>, _> = self.filters.iter().collect();
        for (link, filter) in filters.map_err(MapFault)? {
            if !self.links.has(link) {
                // with its link, a filter is gone
                if let Ok(name) = name_of(link) {
                    drop(left_filter(&name, filter).map_err(fault("if_nametoindex"))?);
                }
                self.filters.remove(&link).map_err(MapFault)?;
                self.forget_link(link)?;
                others += 1;
            }
        }
        self.forget_remotes()?;
        Ok(others)
    }

    /// Has what user space sends to a port leave by another egress; entries are as they were.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn leave_by(&mut self, port: PortId, egress: Egress) -> Result<(), MapFault> {
        let mut ports = self.links.ports.values_mut();
        if let Some(known) = ports.find(|known| known.id == port) {
            known.egress = egress;
            self.egresses
                .set(port.number().into(), RawEgress::from(egress), 0)
                .map_err(MapFault)?;
        }
        Ok(())
    }

    /// Says that user space lives, and takes misses: for so long from now, or until it says so
    /// again. After that, misses are dropped, and entries go on. If it never says so, misses are
    /// always punted.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn beat(&mut self, lasts: Duration) -> Result<(), MapFault> {
        let punt = self.punt.get(&0, 0).map_err(MapFault)?;
        let until = nanoseconds(Self::now().saturating_add(lasts));
        self.punt.set(0, RawPunt { until, ..punt }, 0).map_err(MapFault)
    }

    /// Limits the misses of a port, so that its new flows do not keep those of others from user
    /// space. Packets that user space has asked for, or waits for, are not limited.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn limit(&mut self, port: PortId, limit: MissLimit) -> Result<(), MapFault> {
        let RawShare { interval, credit } = limit.raw();
        let raw = RawLimit { interval, credit, ..RawLimit::default() };
        self.limits.set(port.number().into(), raw, 0).map_err(MapFault)
    }

    /// [Limits](Self::limit) the misses of a port that many send by, and of each source: an address of
    /// IPv4, or a prefix of 64 bits of IPv6. Some sources have one limit together.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn limit_each(
        &mut self,
        port: PortId,
        each: MissLimit,
        all: MissLimit,
    ) -> Result<(), MapFault> {
        self.shares.set(port.number().into(), each.raw(), 0).map_err(MapFault)?;
        self.limit(port, all)
    }

    /// How many misses of a port were too many, since it was limited.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn refused(&self, port: PortId) -> Result<u64, MapFault> {
        Ok(self.limits.get(&port.number().into(), 0).map_err(MapFault)?.refused)
    }

    fn forget(&mut self, link: u32, port: PortId) -> Result<(), MapFault> {
        self.ports.remove(&link).map_err(MapFault)?;
        self.close(port.number().into())
    }

    /// Takes the program off a link.
    pub(crate) fn release(&mut self, link: u32, held: Held) -> Result<(), MapFault> {
        held.release().map_err(fault("unlink"))?;
        if_there(self.filters.remove(&link)).map(|_| ())
    }

    /// Forgets a link of a predecessor, if it was a port's.
    fn forget_link(&mut self, link: u32) -> Result<(), MapFault> {
        self.forget_left(link)?;
        if_there(self.ports.remove(&link)).map(|_| ())
    }

    /// Nothing leaves by the number that the predecessor had for this link, if nobody has it now.
    fn forget_left(&mut self, link: u32) -> Result<(), MapFault> {
        let Some(number) = if_there(self.ports.get(&link, 0))? else { return Ok(()) };
        let has_it = |port: &Port| u32::from(port.id.number()) == number;
        if self.links.ports.values().any(has_it) { Ok(()) } else { self.close(number) }
    }

    /// Nothing leaves by this number any more.
    pub(crate) fn close(&mut self, at: u32) -> Result<(), MapFault> {
        self.limits.set(at, RawLimit::default(), 0).map_err(MapFault)?;
        self.shares.set(at, RawShare::default(), 0).map_err(MapFault)?;
        self.egresses.set(at, RawEgress::default(), 0).map_err(MapFault)
    }

    /// Has a program at tc ingress of a link, in the place of a predecessor's if there is one.
    pub(crate) fn hold(&mut self, name: &str, link: u32) -> Result<Held, AttachError> {
        let interface = name_of(link).map_err(|cause| AttachError::NoSuchLink { link, cause })?;
        let pin = self.pins.as_ref().map(|pins| pins.link(name, link));
        match pin {
            None => Ok(Held::until_the_end(self.put_on(name, &interface)?)),
            Some(path) if self.features.tcx => {
                if let Some(adopted) = pinned_link(&path).ok().and_then(|it| self.adopt(name, it)) {
                    return Ok(Held::pinned(adopted, path));
                }
                // one that cannot be adopted is of a device that is gone
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        Err(fault("unlink")(error).into())
                    }
                    _ => Ok(Held::pin(self.put_on(name, &interface)?, path)?),
                }
            }
            Some(_) => {
                let left = self.filters.get(&link, 0).ok();
                let left = left.and_then(|filter| left_filter(&interface, filter).ok());
                if let Some(adopted) = left.and_then(|it| self.adopt(name, it)) {
                    return Ok(Held::filter(adopted));
                }
                let put = self.put_on(name, &interface)?;
                let refused =
                    |cause| AttachError::Refused { name: interface, cause: Box::new(cause) };
                let (priority, handle) =
                    put.priority().and_then(|it| Ok((it, put.handle()?))).map_err(refused)?;
                let filter = RawFilter { handle: handle.into(), priority, zero: 0 };
                self.filters.insert(link, filter, 0).map_err(MapFault)?;
                Ok(Held::filter(put))
            }
        }
    }

    fn adopt(&mut self, name: &str, left: SchedClassifierLink) -> Option<SchedClassifierLink> {
        let program = program(&mut self.ebpf, name);
        program.attach_to_link(left).and_then(|id| program.take_link(id)).ok()
    }

    fn put_on(&mut self, name: &str, interface: &str) -> Result<SchedClassifierLink, AttachError> {
        let tcx = self.features.tcx;
        if !tcx {
            make_clsact(interface)?;
        }
        let program = program(&mut self.ebpf, name);
        let deadline = Instant::now() + LETTING_GO;
        loop {
            let options = match tcx {
                true => TcAttachOptions::TcxOrder(LinkOrder::default()),
                false => TcAttachOptions::Netlink(NlOptions::default()),
            };
            let attached = program.attach_with_options(interface, TcAttachType::Ingress, options);
            match attached.and_then(|id| program.take_link(id)) {
                // what was let go just now may be there a little longer
                Err(cause) if is_there(&cause) && Instant::now() < deadline => {
                    thread::sleep(PAUSE);
                }
                Err(cause) => {
                    let name = interface.to_owned();
                    return Err(AttachError::Refused { name, cause: Box::new(cause) });
                }
                Ok(link) => return Ok(link),
            }
        }
    }
}

impl Links {
    /// Whether this may become a port.
    fn admit(&self, link: u32, port: PortId, egress: Egress) -> Result<(), AttachError> {
        self.admit_any(link, port)?;
        if self.tunnels.has(link) {
            return Err(AttachError::IsPort(link));
        }
        if let Egress::Tunnel(_) = egress {
            return Err(AttachError::NoTunnel(link));
        }
        let loops = |receiver| receiver == link || self.is_port(receiver);
        if self.ports.values().any(|other| other.egress == Egress::Host(link))
            || matches!(egress, Egress::Host(receiver) if loops(receiver))
        {
            return Err(AttachError::Loop(link));
        }
        Ok(())
    }

    /// Whether a port of any kind may be behind this link. One link has many tunnels.
    pub(crate) fn admit_any(&self, link: u32, port: PortId) -> Result<(), AttachError> {
        if self.is_port(link) || self.uplinks.has(link) {
            return Err(AttachError::IsPort(link));
        }
        if self.is_punt(link) {
            return Err(AttachError::IsPunt(link));
        }
        let is_taken = self.ports.values().any(|other| other.id == port)
            || self.tunnels.leads_to(port)
            || self.uplinks.leads_to(port);
        if is_taken { Err(AttachError::InUse(port)) } else { Ok(()) }
    }

    fn has(&self, link: u32) -> bool {
        let is_beyond = self.tunnels.has(link) || self.uplinks.has(link);
        is_beyond || self.is_port(link) || self.is_punt(link)
    }

    fn is_punt(&self, link: u32) -> bool {
        self.punt.as_ref().is_some_and(|(punt, _)| *punt == link)
    }

    fn is_port(&self, link: u32) -> bool {
        self.ports.contains_key(&link)
    }
}

impl From<Egress> for RawEgress {
    fn from(egress: Egress) -> Self {
        let (ifindex, flags) = egress.parts();
        Self { ifindex, flags: flags.into(), ..Self::default() }
    }
}

/// Why a link is no port, or no punt pair.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It is one already.
    #[error("link {0} is a port already")]
    IsPort(u32),
    /// It is the near end of the punt pair.
    #[error("link {0} is the punt pair's")]
    IsPunt(u32),
    /// Another port has the id.
    #[error("there is a port {} already", .0.number())]
    InUse(PortId),
    /// What is for one port would come in by another.
    #[error("link {0} would be both a port and what receives for one")]
    Loop(u32),
    /// A port of its own is to be behind another one's tunnel.
    #[error("link {0} is no tunnel: `add_remote` makes a node behind one a port")]
    NoTunnel(u32),
    /// There is no such link in the caller's namespace.
    #[error("there is no link {link} here: {cause}")]
    NoSuchLink {
        /// Its index.
        link: u32,
        /// What the kernel said.
        cause: rustix::io::Errno,
    },
    /// It cannot be entered among the ports.
    #[error(transparent)]
    Map(#[from] MapFault),
    /// The kernel does not take a `clsact` qdisc.
    #[error("link `{name}` takes no clsact qdisc: {cause}")]
    Qdisc {
        /// The link.
        name: String,
        /// What the kernel said.
        cause: TcError,
    },
    /// It cannot outlive the process.
    #[error("a link of the flow cache is not pinned: {0}")]
    Hold(#[from] HoldError),
    /// The kernel does not take the program there.
    #[error("the flow cache cannot be attached to `{name}`: {}", whole(cause))]
    Refused {
        /// The link.
        name: String,
        /// What the kernel said.
        cause: Box<ProgramError>,
    },
}

/// Whether the program is at the link already.
fn is_there(cause: &ProgramError) -> bool {
    let ProgramError::SyscallError(call) = cause else { return false };
    call.io_error.kind() == ErrorKind::AlreadyExists
}

/// An error with what it came of.
fn whole(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| (**error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// For how long a link that was let go may be there: a program that this process starts has copies of all
/// descriptors until it runs, which takes its time on a busy machine.
const LETTING_GO: Duration = Duration::from_secs(2);
/// How soon that is looked at again.
const PAUSE: Duration = Duration::from_millis(1);
/// What can be added to any time of a machine's clock.
const LONGEST: u64 = u64::MAX / 4;

/// Another owner's qdisc is as good.
fn make_clsact(name: &str) -> Result<(), AttachError> {
    match qdisc_add_clsact(name) {
        Ok(()) => Ok(()),
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(cause) => Err(AttachError::Qdisc { name: name.to_owned(), cause }),
    }
}
