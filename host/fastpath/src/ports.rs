//! The links that are ports, and the punt pair.
//!
//! Owns what holds the programs where they are. Works in the network namespace of the calling
//! thread, as dropping the cache does.
//!
//! A reader must not break this: what user space sends never comes back to it. So the punt pair's
//! near end is no port, and no port gives its packets to another port's tc ingress.

use std::collections::HashMap;

use aya::programs::LinkOrder;
use aya::programs::ProgramError;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError, qdisc_add_clsact,
};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use crate::cache::{MapFault, ON_PORTS, ON_PUNT, program};
use crate::layout::{RawEgress, RawPunt};
use crate::{Egress, FlowCache, PortId};

/// What holds the programs where they are.
#[derive(Default)]
pub(crate) struct Links {
    ports: HashMap<u32, Port>,
    punt: Option<(u32, SchedClassifierLink)>,
}

struct Port {
    id: PortId,
    egress: Egress,
    _held: SchedClassifierLink,
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
        self.ports.insert(link, at, 0).map_err(MapFault)?;
        self.egresses.set(at, RawEgress::from(egress), 0).map_err(MapFault)?;
        match self.hold(ON_PORTS, link) {
            Ok(held) => {
                self.links.ports.insert(link, Port { id: port, egress, _held: held });
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
        let id = port.id;
        drop(port);
        self.forget(link, id)?;
        Ok(true)
    }

    /// Sends misses to the punt pair whose near end is the link with this index, and that has so
    /// many queues; and takes from it what user space sends to ports. Before this, misses are
    /// dropped. Again with another pair, the first one is let go.
    ///
    /// # Errors
    /// If the link is a port, or the kernel refuses.
    pub fn punt_to(&mut self, link: u32, queues: u32) -> Result<(), AttachError> {
        if self.links.is_port(link) {
            return Err(AttachError::IsPort(link));
        }
        let held = match self.links.punt.take_if(|(there, _)| *there == link) {
            Some((_, held)) => held,
            None => self.hold(ON_PUNT, link)?,
        };
        self.links.punt = Some((link, held));
        self.punt.set(0, RawPunt { ifindex: link, queues }, 0).map_err(MapFault)?;
        Ok(())
    }

    fn forget(&mut self, link: u32, port: PortId) -> Result<(), MapFault> {
        self.ports.remove(&link).map_err(MapFault)?;
        self.egresses.set(port.number().into(), RawEgress::default(), 0).map_err(MapFault)
    }

    /// Puts a program at tc ingress of a link.
    fn hold(&mut self, name: &str, link: u32) -> Result<SchedClassifierLink, AttachError> {
        let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)
            .map_err(|cause| AttachError::NoSuchLink { link, cause })?;
        let interface = netdevice::index_to_name(socket, link)
            .map_err(|cause| AttachError::NoSuchLink { link, cause })?;
        let options = if self.features.tcx {
            TcAttachOptions::TcxOrder(LinkOrder::default())
        } else {
            make_clsact(&interface)?;
            TcAttachOptions::Netlink(NlOptions::default())
        };
        let program = program(&mut self.ebpf, name);
        program
            .attach_with_options(&interface, TcAttachType::Ingress, options)
            .and_then(|id| program.take_link(id))
            .map_err(|cause| AttachError::Refused { name: interface, cause: Box::new(cause) })
    }
}

impl Links {
    /// Whether this may become a port.
    fn admit(&self, link: u32, port: PortId, egress: Egress) -> Result<(), AttachError> {
        if self.is_port(link) {
            return Err(AttachError::IsPort(link));
        }
        if self.punt.as_ref().is_some_and(|(punt, _)| *punt == link) {
            return Err(AttachError::IsPunt(link));
        }
        if self.ports.values().any(|other| other.id == port) {
            return Err(AttachError::InUse(port));
        }
        let loops = |receiver| receiver == link || self.is_port(receiver);
        if self.ports.values().any(|other| other.egress == Egress::Host(link))
            || matches!(egress, Egress::Host(receiver) if loops(receiver))
        {
            return Err(AttachError::Loop(link));
        }
        Ok(())
    }

    fn is_port(&self, link: u32) -> bool {
        self.ports.contains_key(&link)
    }
}

impl From<Egress> for RawEgress {
    fn from(egress: Egress) -> Self {
        let (ifindex, flags) = egress.parts();
        Self { ifindex, flags: flags.into() }
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
    /// The kernel does not take the program there.
    #[error("the flow cache cannot be attached to `{name}`: {cause}")]
    Refused {
        /// The link.
        name: String,
        /// What the kernel said.
        cause: Box<ProgramError>,
    },
}

/// Another owner's qdisc is as good.
fn make_clsact(name: &str) -> Result<(), AttachError> {
    match qdisc_add_clsact(name) {
        Ok(()) => Ok(()),
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(cause) => Err(AttachError::Qdisc { name: name.to_owned(), cause }),
    }
}
