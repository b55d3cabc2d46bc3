//! Ports: what packets enter and leave by, and which VLANs they carry.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use millrace_abi::{PortKind, limits};
use serde::{Deserialize, Serialize};

/// The number of a port, 1 to [`limits::MAX_PORT`]. It stays with the port, and is not given to
/// another one while the first may still be remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u16", try_from = "u16")]
pub struct PortId(u16);

impl PortId {
    /// The punt, which no port has as its number: see the module `punt`.
    pub const PUNT: Self = Self(0);

    /// The port with this number, if it can be one.
    pub const fn new(number: u16) -> Option<Self> {
        if number >= 1 && number <= limits::MAX_PORT { Some(Self(number)) } else { None }
    }

    /// Its number.
    #[inline]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// Its place in a table of ports.
    #[inline]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl From<PortId> for u16 {
    fn from(id: PortId) -> Self {
        id.0
    }
}

impl TryFrom<u16> for PortId {
    type Error = &'static str;

    fn try_from(number: u16) -> Result<Self, Self::Error> {
        Self::new(number).ok_or("no port has this number")
    }
}

/// What a worker knows of a port.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its number.
    pub id: PortId,
    /// Its name, that of its interface.
    pub name: String,
    /// What it leads to.
    pub kind: PortKind,
    /// The index of its interface.
    pub link: u32,
    /// The largest IP packet it carries, in bytes.
    pub mtu: u32,
    /// Whether its interface is up.
    pub up: bool,
    /// Whether its interface limits how fast it sends: then nothing may go past its queue.
    pub shaped: bool,
    /// The VLANs it carries.
    pub vlans: Vlans,
    /// Whether frames may come in with transport checksums that their sender left to hardware
    /// which is not there.
    pub completes_checksums: bool,
    /// How its frames come and go.
    pub hold: Hold,
}

/// How the frames of a port come and go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Through sockets of its own.
    Direct,
    /// Through the kernel's flow cache, and through the punt where that does not know them.
    Cached(Station),
}

/// Who is at the other end of a cached port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// What it knows the dataplane by.
    pub gateway: Gateway,
}

/// What a station knows the dataplane by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Its link-layer address.
    pub mac: [u8; 6],
    /// Its IPv4 address, if it speaks IPv4.
    pub v4: Option<Ipv4Addr>,
    /// Its IPv6 address, if it speaks IPv6.
    pub v6: Option<Ipv6Addr>,
}

/// The VLANs a port carries (IEEE 802.1Q clause 6.9). VLAN 0 stands for "none".
#[derive(Clone, PartialEq, Eq)]
pub struct Vlans {
    /// Where frames without a tag belong.
    untagged: Option<u16>,
    /// Frames of which VLANs come and go with a tag.
    tagged: VlanSet,
}

/// How a frame leaves by a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tagging {
    /// Without a tag.
    Untagged,
    /// With a tag.
    Tagged,
}

/// A set of VLAN identifiers.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet(Box<[u64; 64]>);

impl Port {
    /// Whether what is for all of a segment is for who is behind the port: not where packets are
    /// routed to, through the kernel's flow cache.
    pub fn is_of_segment(&self) -> bool {
        let is_routed = matches!(self.kind, PortKind::Uplink | PortKind::Remote);
        self.hold == Hold::Direct || !is_routed
    }

    /// What whoever is behind the port knows the dataplane by, if anything.
    pub fn gateway(&self) -> Option<Gateway> {
        match self.hold {
            Hold::Direct => None,
            Hold::Cached(station) => Some(station.gateway),
        }
    }
}

impl Vlans {
    /// A port that carries every frame as it is.
    pub fn transparent() -> Self {
        Self { untagged: Some(0), tagged: VlanSet::all() }
    }

    /// A port whose frames have no tag and belong to `vlan`.
    pub fn access(vlan: u16) -> Self {
        Self { untagged: Some(vlan), tagged: VlanSet::none() }
    }

    /// A port whose frames are tagged with one of `tagged`, or belong to `native`.
    pub fn trunk(tagged: VlanSet, native: Option<u16>) -> Self {
        Self { untagged: native, tagged }
    }

    /// Whether frames come and go with tags of some VLANs, but not of all.
    pub fn is_trunk(&self) -> bool {
        self.tagged != VlanSet::none() && self.tagged != VlanSet::all()
    }

    /// The VLAN of a frame that came in with the tag `tag` (0 for no tag, or a priority tag);
    /// `None` if the port does not carry it.
    #[inline]
    pub fn classify(&self, tag: u16) -> Option<u16> {
        match tag {
            0 => self.untagged,
            vlan => self.tagged.contains(vlan).then_some(vlan),
        }
    }

    /// How a frame of `vlan` leaves; `None` if the port does not carry it.
    #[inline]
    pub fn tagging(&self, vlan: u16) -> Option<Tagging> {
        if self.untagged == Some(vlan) {
            Some(Tagging::Untagged)
        } else {
            self.tagged.contains(vlan).then_some(Tagging::Tagged)
        }
    }
}

impl VlanSet {
    /// No VLAN.
    pub fn none() -> Self {
        Self(Box::new([0; 64]))
    }

    /// VLANs 1 to 4094.
    pub fn all() -> Self {
        (1..=limits::MAX_PORT).collect()
    }

    /// Whether `vlan` is in the set.
    #[inline]
    pub fn contains(&self, vlan: u16) -> bool {
        self.0.get(usize::from(vlan) / 64).is_some_and(|word| word & (1 << (vlan % 64)) != 0)
    }

    fn iter(&self) -> impl Iterator<Item = u16> {
        (1..=limits::MAX_PORT).filter(|&vlan| self.contains(vlan))
    }
}

impl FromIterator<u16> for VlanSet {
    fn from_iter<I: IntoIterator<Item = u16>>(vlans: I) -> Self {
        let mut set = Self::none();
        for vlan in vlans {
            if let Some(word) = set.0.get_mut(usize::from(vlan) / 64) {
                *word |= 1 << (vlan % 64);
            }
        }
        set
    }
}

/// A text is no set of VLANs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not `transparent`, `access:10` or `trunk:10+20-29` (with `+native:1`)")]
pub struct ParseVlansError(String);

impl FromStr for Vlans {
    type Err = ParseVlansError;

    /// Reads `transparent`, `access:10`, `trunk:10+20-29` or `trunk:10+native:1`.
    fn from_str(text: &str) -> Result<Self, ParseVlansError> {
        let wrong = || ParseVlansError(text.to_owned());
        let id = |id: &str| {
            let id: u16 = id.parse().map_err(|_| wrong())?;
            if (1..=limits::MAX_PORT).contains(&id) { Ok(id) } else { Err(wrong()) }
        };
        if text == "transparent" {
            return Ok(Self::transparent());
        }
        if let Some(vlan) = text.strip_prefix("access:") {
            return Ok(Self::access(id(vlan)?));
        }
        let list = text.strip_prefix("trunk:").ok_or_else(wrong)?;
        let (mut tagged, mut native) = (Vec::new(), None);
        for part in list.split('+') {
            if let Some(vlan) = part.strip_prefix("native:") {
                native = Some(id(vlan)?);
            } else if let Some((first, last)) = part.split_once('-') {
                tagged.extend(id(first)?..=id(last)?);
            } else {
                tagged.push(id(part)?);
            }
        }
        Ok(Self::trunk(tagged.into_iter().collect(), native))
    }
}

impl fmt::Display for Vlans {
    /// Writes what [`Vlans::from_str`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::transparent() {
            return f.write_str("transparent");
        }
        let mut tagged = self.tagged.iter().peekable();
        match (tagged.peek(), self.untagged) {
            (None, Some(vlan)) => write!(f, "access:{vlan}"),
            (_, native) => {
                let mut separator = "trunk:";
                while let Some(first) = tagged.next() {
                    let mut last = first;
                    while let Some(next) = tagged.next_if_eq(&(last + 1)) {
                        last = next;
                    }
                    write!(f, "{separator}{first}")?;
                    if last > first {
                        write!(f, "-{last}")?;
                    }
                    separator = "+";
                }
                native.map_or(Ok(()), |vlan| write!(f, "{separator}native:{vlan}"))
            }
        }
    }
}

impl fmt::Debug for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a worker counts of a port. Written by that worker alone, read by anybody.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Packets that came in.
    pub rx_packets: AtomicU64,
    /// Their bytes.
    pub rx_bytes: AtomicU64,
    /// Packets handed to the kernel to leave.
    pub tx_packets: AtomicU64,
    /// Their bytes.
    pub tx_bytes: AtomicU64,
    /// How often the kernel dropped some of what it was handed: its own queue was full.
    pub tx_refused: AtomicU64,
}

/// The ports that a worker has.
#[derive(Debug, Default)]
pub struct PortTable {
    /// By number; mostly empty behind the last one.
    held: Vec<Option<HeldPort>>,
}

/// A port, and what this worker counts of it.
#[derive(Debug)]
pub struct HeldPort {
    /// The port.
    pub port: Port,
    /// What is counted.
    pub counters: Arc<PortCounters>,
}

impl PortTable {
    /// The port with this number.
    #[inline]
    pub fn get(&self, id: PortId) -> Option<&HeldPort> {
        self.held.get(id.index()).and_then(Option::as_ref)
    }

    /// Whether there is a port with this number behind the kernel's flow cache.
    pub fn is_cached(&self, number: u16) -> bool {
        let held = PortId::new(number).and_then(|id| self.get(id));
        held.is_some_and(|held| matches!(held.port.hold, Hold::Cached(_)))
    }

    /// The port with this number, to be changed.
    pub fn get_mut(&mut self, id: PortId) -> Option<&mut HeldPort> {
        self.held.get_mut(id.index()).and_then(Option::as_mut)
    }

    /// The same ports, whose counters are the same too.
    pub(crate) fn snapshot(&self) -> Self {
        let mut copy = Self::default();
        for HeldPort { port, counters } in self.iter() {
            copy.insert(HeldPort { port: port.clone(), counters: Arc::clone(counters) });
        }
        copy
    }

    /// Adds a port, in place of the one that had its number.
    pub fn insert(&mut self, held: HeldPort) {
        let index = held.port.id.index();
        if self.held.len() <= index {
            self.held.resize_with(index + 1, || None);
        }
        self.held[index] = Some(held);
    }

    /// Takes a port out.
    pub fn remove(&mut self, id: PortId) -> Option<HeldPort> {
        self.held.get_mut(id.index()).and_then(Option::take)
    }

    /// Every port, in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &HeldPort> {
        self.held.iter().flatten()
    }
}

/// Adds to a counter that only the calling thread writes: a load and a store, no lock prefix.
#[inline]
pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(n), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_vlans_and_back() {
        for text in
            ["transparent", "access:10", "trunk:10", "trunk:10-12+20+native:1", "trunk:native:7"]
        {
            let vlans: Vlans = text.parse().unwrap_or_else(|error| panic!("{error}"));
            let expected = if text == "trunk:native:7" { "access:7" } else { text };
            assert_eq!(vlans.to_string(), expected);
        }
        for text in ["", "access", "access:0", "access:4095", "trunk:", "trunk:5-x", "vlan 3"] {
            assert!(text.parse::<Vlans>().is_err(), "{text}");
        }
    }

    #[test]
    fn frames_are_classified_coming_in_and_tagged_going_out() {
        let port = |text: &str| text.parse::<Vlans>().expect("a right text");
        let transparent = port("transparent");
        assert_eq!((transparent.classify(0), transparent.classify(5)), (Some(0), Some(5)));
        assert_eq!(transparent.tagging(0), Some(Tagging::Untagged));
        assert_eq!(transparent.tagging(5), Some(Tagging::Tagged));
        let access = port("access:10");
        assert_eq!((access.classify(0), access.classify(10)), (Some(10), None));
        assert_eq!((access.tagging(10), access.tagging(0)), (Some(Tagging::Untagged), None));
        let trunk = port("trunk:10+20+native:1");
        assert_eq!(
            (trunk.classify(0), trunk.classify(20), trunk.classify(30)),
            (Some(1), Some(20), None)
        );
        assert_eq!(trunk.tagging(1), Some(Tagging::Untagged));
        assert_eq!(trunk.tagging(20), Some(Tagging::Tagged));
        let strict = port("trunk:10");
        assert_eq!((strict.classify(0), strict.tagging(0)), (None, None));
        assert_eq!(
            [transparent, access, trunk, strict].map(|port| port.is_trunk()),
            [false, false, true, true]
        );
    }
}
