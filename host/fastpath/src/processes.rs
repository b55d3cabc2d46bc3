//! The node's own processes: what they send to an address of the node never comes by a link.
//!
//! Owns which addresses stand in for the node's own, where those have ports that are Services', and
//! the programs at a cgroup that put them there when a process calls `connect` or `sendmsg`, and back
//! when it asks who answers. Packets themselves are not touched.
//!
//! A reader must not break this: programs of two caches at one cgroup do no more than one, for what
//! one has put there is nothing that stands for anything.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData};
use aya::pin::PinError;
use aya::programs::links::{FdLink, LinkError};
use aya::programs::{CgroupAttachMode, CgroupSockAddr, ProgramError};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::FlowCache;
use crate::cache::MapFault;
use crate::entries::if_there;
use crate::layout::RawAddress;

/// A cgroup, whose processes are those in it and below.
#[derive(Debug)]
pub struct Cgroup(OwnedFd);

/// Which addresses stand in for which.
pub(crate) struct StandIns {
    there: HashMap<MapData, RawAddress, RawAddress>,
    back: HashMap<MapData, RawAddress, RawAddress>,
    known: BTreeMap<IpAddr, IpAddr>,
    /// What holds programs that nothing pins.
    held: Vec<FdLink>,
}

/// Why processes are not attended.
#[derive(Debug, thiserror::Error)]
pub enum AttendError {
    /// Namespaces cannot be told from each other.
    #[error("the kernel does not say which network namespace this is, which takes Linux 5.14: {0}")]
    Namespace(io::Error),
    /// The kernel does not take a program.
    #[error("the kernel does not take `{program}` at the cgroup: {cause}")]
    Attach {
        /// Which.
        program: &'static str,
        /// What it said.
        cause: ProgramError,
    },
    /// It is not held for longer than this process.
    #[error("what holds `{program}` at the cgroup cannot be pinned: {cause}")]
    Pin {
        /// Which.
        program: &'static str,
        /// What the kernel said.
        cause: HoldFault,
    },
}

/// Why a program is not held at a cgroup for longer than this process.
#[derive(Debug, thiserror::Error)]
pub enum HoldFault {
    /// It is no link that can be pinned.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// It cannot be pinned there.
    #[error(transparent)]
    Pin(#[from] PinError),
    /// What a predecessor has pinned cannot be removed.
    #[error(transparent)]
    Predecessor(#[from] io::Error),
}

impl Cgroup {
    /// The one that has all processes which the cgroup namespace of this process knows of, wherever
    /// cgroups are mounted, or nowhere: version 2 (cgroups(7)), which there is beside version 1 too.
    ///
    /// # Errors
    /// If the kernel refuses: this takes `CAP_SYS_ADMIN`.
    pub fn root() -> io::Result<Self> {
        let system = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&system)?;
        // it is mounted for this descriptor alone
        let attributes = MountAttrFlags::empty();
        Ok(Self(fsmount(&system, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?))
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl FlowCache {
    /// Attends the processes of a cgroup that are in the network namespace in which this cache was
    /// loaded, in place of a predecessor with the same folder: they reach what
    /// [stands in](Self::stand_in) for the node's own addresses.
    ///
    /// # Errors
    /// If the kernel does not take a program there.
    pub fn attend(&mut self, cgroup: &Cgroup) -> Result<(), AttendError> {
        crate::kernel::namespace_cookie().map_err(AttendError::Namespace)?;
        for name in PROGRAMS {
            let held = attach(&mut self.ebpf, name, cgroup)
                .map_err(|cause| AttendError::Attach { program: name, cause })?;
            let link = FdLink::try_from(held).map_err(HoldFault::from);
            let held = link.and_then(|link| {
                let Some(pins) = &self.pins else { return Ok(link) };
                // the predecessor's goes once this one is there
                let path = pins.map(name);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error)?,
                    _ => Ok(FdLink::from(link.pin(path)?)),
                }
            });
            let held = held.map_err(|cause| AttendError::Pin { program: name, cause })?;
            self.stand_ins.held.push(held);
        }
        Ok(())
    }

    /// Has these addresses stand in for the node's own, each of which is the key of one, in place of
    /// those before: what an attended process sends to a port of its own node goes to the address
    /// that stands in, if [it is claimed](Self::claim) at this port.
    ///
    /// # Errors
    /// If the kernel refuses. Some of them may be known then.
    pub fn stand_in(&mut self, wanted: BTreeMap<IpAddr, IpAddr>) -> Result<(), MapFault> {
        let StandIns { there, back, known, .. } = &mut self.stand_ins;
        for (own, stands_in) in known.iter() {
            if wanted.get(own) != Some(stands_in) {
                if_there(there.remove(&octets(*own)))?;
                if_there(back.remove(&octets(*stands_in)))?;
            }
        }
        for (own, stands_in) in &wanted {
            // who is answered from it has to be told whom it stands for
            back.insert(octets(*stands_in), octets(*own), 0).map_err(MapFault)?;
            there.insert(octets(*own), octets(*stands_in), 0).map_err(MapFault)?;
        }
        *known = wanted;
        Ok(())
    }
}

impl StandIns {
    /// Those of the maps, which may be a predecessor's.
    pub(crate) fn of(there: Map, back: Map) -> Result<Self, MapFault> {
        let there: HashMap<_, RawAddress, RawAddress> = there.try_into().map_err(MapFault)?;
        let back = back.try_into().map_err(MapFault)?;
        let known: Result<_, _> = there.iter().collect();
        let known: Vec<(RawAddress, RawAddress)> = known.map_err(MapFault)?;
        let address = |octets: RawAddress| IpAddr::from(octets).to_canonical();
        let known = known.into_iter().map(|(own, it)| (address(own), address(it))).collect();
        Ok(Self { there, back, known, held: Vec::new() })
    }
}

fn attach(
    ebpf: &mut Ebpf,
    name: &str,
    cgroup: &Cgroup,
) -> Result<aya::programs::cgroup_sock_addr::CgroupSockAddrLink, ProgramError> {
    let program = ebpf.program_mut(name);
    let program = program.expect("the object, compiled with this crate, has the program");
    let program: &mut CgroupSockAddr = program.try_into()?;
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(error),
    }
    // a link is beside those of others in any mode
    let link = program.attach(cgroup, CgroupAttachMode::Single)?;
    program.take_link(link)
}

fn octets(address: IpAddr) -> RawAddress {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

const PROGRAMS: [&str; 8] = [
    "recvmsg4",
    "recvmsg6",
    "getpeername4",
    "getpeername6",
    // who is sent elsewhere is told whom it means by those before
    "sendmsg4",
    "sendmsg6",
    "connect4",
    "connect6",
];
