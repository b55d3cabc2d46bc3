//! What a filter answers for a flow: fields plus control.
//!
//! Stating a field never ends the chain; only [`Control::Drop`] and
//! [`Control::Reject`] do. A later stage that states a field again replaces it.

use core::net::IpAddr;

use crate::slot::octets;
use crate::{Reason, layout};

layout! {
    /// What a filter decides about a flow.
    ///
    /// Before the call the host zeroes `control`, `tag_count`, `fields`, `reason` and `rule`,
    /// which is "go on, nothing to say". What else is in it counts only where `fields` or
    /// `tag_count` says so, and is what was there before.
    pub struct Decision as "millrace_decision", 128 bytes {
        /// Whether the flow goes on: MILLRACE_CONTROL_*.
        0 => control: u8,
        /// How many of `tags` are used, at most 8.
        1 => tag_count: u8,
        /// Which fields are stated: MILLRACE_FIELD_* bits.
        2 => fields: u16,
        /// Why, for DROP and REJECT: a MILLRACE_REASON_* that filters may state; 0 is DENIED.
        4 => reason: u16,
        /// EGRESS: the port to leave by.
        6 => egress: u16,
        /// Which of the filter's own rules decided; 0 if none. The manifest names them.
        8 => rule: u32,
        /// INSPECT: after how many packets of the flow the packet hook has seen enough; 0xffff is
        /// never.
        12 => inspect: u16,
        /// TO: the new destination port; 0 keeps the packet's.
        14 => to_port: u16,
        /// AS: the new source port; 0 keeps the packet's.
        16 => as_port: u16,
        /// Zero.
        18 => reserved: u16,
        /// IDLE: milliseconds without a packet after which the flow is forgotten; the host's own
        /// limit stays.
        20 => idle_ms: u32,
        /// REVALIDATE: milliseconds after which the next packet asks the chain again.
        24 => revalidate_ms: u32,
        /// Zero.
        28 => reserved2: u32,
        /// What the decision depends on; see MILLRACE_TAG_*.
        32 => tags: [u32; 8],
        /// TO: the new destination address, in the form of the slot's.
        64 => to_addr: [u8; 16],
        /// AS: the new source address.
        80 => as_addr: [u8; 16],
        /// NEXT_HOP: the address whose link-layer address the frame is sent to.
        96 => next_hop: [u8; 16],
        /// Zero.
        112 => reserved3: [u8; 16],
    }
}

/// Whether a flow goes on along the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Control {
    /// On to the next stage.
    Continue = 0,
    /// Discard, silently.
    Drop = 1,
    /// Discard and tell the sender: TCP RST, or ICMP / ICMPv6 port unreachable.
    Reject = 2,
}

impl Control {
    /// Every control.
    pub const ALL: [Self; 3] = [Self::Continue, Self::Drop, Self::Reject];

    /// The control with this number.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Continue),
            1 => Some(Self::Drop),
            2 => Some(Self::Reject),
            _ => None,
        }
    }

    /// The word used in tables, metrics and the C header.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }
}

/// A field that a decision may state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Field {
    /// Leave by one port.
    Egress = 1 << 0,
    /// Leave by every port of the segment but the ingress.
    Flood = 1 << 1,
    /// Translate the destination.
    To = 1 << 2,
    /// Translate the source to a stated address.
    As = 1 << 3,
    /// Translate the source to an address and port the host allocates.
    Masquerade = 1 << 4,
    /// Send the frame to the link-layer address of this neighbour.
    NextHop = 1 << 5,
    /// Take one from the time to live; a packet whose time runs out is dropped.
    DecrementTtl = 1 << 6,
    /// Show packets of the flow to the packet hook.
    Inspect = 1 << 7,
    /// Forget the flow after this time without a packet, if not sooner.
    Idle = 1 << 8,
    /// Ask again after this time.
    Revalidate = 1 << 9,
    /// Do not remember the decision at all.
    Once = 1 << 10,
    /// When re-deciding a live flow: replace its translation by this one.
    PickAgain = 1 << 11,
}

impl Field {
    /// Every field.
    pub const ALL: [Self; 12] = [
        Self::Egress,
        Self::Flood,
        Self::To,
        Self::As,
        Self::Masquerade,
        Self::NextHop,
        Self::DecrementTtl,
        Self::Inspect,
        Self::Idle,
        Self::Revalidate,
        Self::Once,
        Self::PickAgain,
    ];

    /// The word used in explanations and the C header.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Egress => "egress",
            Self::Flood => "flood",
            Self::To => "to",
            Self::As => "as",
            Self::Masquerade => "masquerade",
            Self::NextHop => "next-hop",
            Self::DecrementTtl => "decrement-ttl",
            Self::Inspect => "inspect",
            Self::Idle => "idle",
            Self::Revalidate => "revalidate",
            Self::Once => "once",
            Self::PickAgain => "pick-again",
        }
    }
}

/// A set of [`Field`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FieldSet(u16);

impl FieldSet {
    /// No field.
    pub const EMPTY: Self = Self(0);
    /// Every bit that means something.
    pub const KNOWN: Self = Self((1 << Field::ALL.len()) - 1);

    /// The set with these bits, known or not.
    #[inline]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// The bits of the set.
    #[inline]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether `field` is in the set.
    #[inline]
    pub const fn contains(self, field: Field) -> bool {
        self.0 & field as u16 != 0
    }

    /// The set with `field` in it.
    #[inline]
    pub const fn with(self, field: Field) -> Self {
        Self(self.0 | field as u16)
    }

    /// The set without `field`.
    #[inline]
    pub const fn without(self, field: Field) -> Self {
        Self(self.0 & !(field as u16))
    }

    /// What is in this set and not in `other`.
    #[inline]
    pub const fn minus(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether nothing is in the set.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The fields of the set, in order.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        Field::ALL.into_iter().filter(move |&field| self.contains(field))
    }
}

/// [`Decision::inspect`]: every packet of the flow.
pub const INSPECT_ALL: u16 = 0xffff;

/// Something a decision depends on. When it changes, flows that carry its tag
/// are decided again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(u32);

/// What a [`Tag`] names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TagKind {
    /// A Service.
    Service = 1,
    /// A set of policies.
    PolicySet = 2,
    /// An identity: a set of labels.
    Identity = 3,
    /// An address prefix.
    Prefix = 4,
    /// A port of the dataplane.
    Port = 5,
}

impl TagKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Service, Self::PolicySet, Self::Identity, Self::Prefix, Self::Port];

    /// The word used in explanations and the C header.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::PolicySet => "policy-set",
            Self::Identity => "identity",
            Self::Prefix => "prefix",
            Self::Port => "port",
        }
    }
}

impl Tag {
    /// How many bits of a tag number the thing; the rest is its kind.
    pub const ID_BITS: u32 = 28;

    /// The tag of a thing; only the low [`Tag::ID_BITS`] bits of `id` count.
    #[inline]
    pub const fn new(kind: TagKind, id: u32) -> Self {
        Self(((kind as u32) << Self::ID_BITS) | (id & ((1 << Self::ID_BITS) - 1)))
    }

    /// The tag of decisions that depend on what is known of this very prefix. That two prefixes
    /// have one tag is rare, and does no harm.
    pub fn of_prefix(address: IpAddr, len: u8) -> Self {
        // FNV-1a, so that it is the same wherever and whenever it is reckoned
        let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let hash = match address {
            IpAddr::V4(v4) => v4.octets().into_iter().fold(0x811c_9dc5, step),
            IpAddr::V6(v6) => v6.octets().into_iter().fold(0x811c_9dc5, step),
        };
        let hash = step(hash, len);
        Self::new(TagKind::Prefix, hash ^ (hash >> Self::ID_BITS))
    }

    /// The tag of decisions that depend on whose an address is: that of the prefix it is.
    pub fn of_address(address: IpAddr) -> Self {
        Self::of_prefix(address, if address.is_ipv4() { 32 } else { 128 })
    }

    /// The number in [`Decision::tags`].
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The tag with this number.
    #[inline]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

impl Decision {
    /// The fields stated.
    #[inline]
    pub fn stated(&self) -> FieldSet {
        FieldSet::from_bits(self.fields)
    }

    #[inline]
    fn state(&mut self, field: Field) -> &mut Self {
        self.fields |= field as u16;
        self
    }

    /// Discards the flow.
    #[inline]
    pub fn drop(&mut self, reason: Reason) -> &mut Self {
        self.control = Control::Drop as u8;
        self.reason = reason as u16;
        self
    }

    /// Discards the flow and tells the sender.
    #[inline]
    pub fn reject(&mut self, reason: Reason) -> &mut Self {
        self.control = Control::Reject as u8;
        self.reason = reason as u16;
        self
    }

    /// Names the rule, of those in the manifest, that decided.
    #[inline]
    pub fn by_rule(&mut self, rule: u32) -> &mut Self {
        self.rule = rule;
        self
    }

    /// Sends the flow out of `port`.
    #[inline]
    pub fn egress(&mut self, port: u16) -> &mut Self {
        self.egress = port;
        self.fields &= !(Field::Flood as u16);
        self.state(Field::Egress)
    }

    /// Sends the packet out of every port of the segment but the one it came by.
    #[inline]
    pub fn flood(&mut self) -> &mut Self {
        self.fields &= !(Field::Egress as u16);
        self.state(Field::Flood)
    }

    /// Translates the destination. Port 0 keeps the packet's.
    #[inline]
    pub fn translate_destination(&mut self, address: IpAddr, port: u16) -> &mut Self {
        self.to_addr = octets(address);
        self.to_port = port;
        self.state(Field::To)
    }

    /// Translates the source. Port 0 keeps the packet's.
    #[inline]
    pub fn translate_source(&mut self, address: IpAddr, port: u16) -> &mut Self {
        self.as_addr = octets(address);
        self.as_port = port;
        self.state(Field::As)
    }

    /// Translates the source to what the host allocates.
    #[inline]
    pub fn masquerade(&mut self) -> &mut Self {
        self.state(Field::Masquerade)
    }

    /// Sends the frame to this neighbour.
    #[inline]
    pub fn next_hop(&mut self, address: IpAddr) -> &mut Self {
        self.next_hop = octets(address);
        self.state(Field::NextHop)
    }

    /// Takes one from the time to live.
    #[inline]
    pub fn decrement_ttl(&mut self) -> &mut Self {
        self.state(Field::DecrementTtl)
    }

    /// Shows the first `packets` of the flow to the packet hook, and those that come in one burst
    /// with the last of them; [`INSPECT_ALL`] for all.
    #[inline]
    pub fn inspect(&mut self, packets: u16) -> &mut Self {
        self.inspect = packets;
        self.state(Field::Inspect)
    }

    /// Forgets the flow after this many milliseconds without a packet, if the host would not
    /// sooner.
    #[inline]
    pub fn idle_after(&mut self, milliseconds: u32) -> &mut Self {
        self.idle_ms = milliseconds;
        self.state(Field::Idle)
    }

    /// Asks again with the first packet after this many milliseconds.
    #[inline]
    pub fn revalidate_after(&mut self, milliseconds: u32) -> &mut Self {
        self.revalidate_ms = milliseconds;
        self.state(Field::Revalidate)
    }

    /// Decides for this packet alone.
    #[inline]
    pub fn once(&mut self) -> &mut Self {
        self.state(Field::Once)
    }

    /// When re-deciding: replaces the flow's translation by the one stated here.
    #[inline]
    pub fn pick_again(&mut self) -> &mut Self {
        self.state(Field::PickAgain)
    }

    /// Names something the decision depends on. More than 8 tags: the last ones are lost,
    /// and the decision is remembered for one packet only.
    #[inline]
    pub fn depends_on(&mut self, tag: Tag) -> &mut Self {
        match self.tags.get_mut(usize::from(self.tag_count)) {
            Some(free) => {
                *free = tag.bits();
                self.tag_count += 1;
                self
            }
            None => self.once(),
        }
    }
}
