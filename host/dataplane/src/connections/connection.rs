//! One connection, as the table keeps it.

use std::num::NonZeroU32;

use millrace_abi::{NO_PORT, Slot, Tag, TagKind, limits};
use millrace_wire::tcp::Flags;

use super::index::Place;
use super::list::Link;
use super::tcp::{Segment, Step, TcpState};
use super::{Closing, ConnectionId, Direction, Key, Packet, State, Timeouts, Usage, Way, Zone};
use crate::verdict::Tags;

/// One connection. Its original key is the opening slot's, seen from `zone`.
pub(super) struct Connection {
    pub(super) slot: Slot,
    pub(super) reply: Key,
    pub(super) ways: [Way; 2],
    pub(super) last_seen_ns: [u64; 2],
    pub(super) traffic: [Traffic; 2],
    /// Of the entries in the kernel's cache.
    pub(super) generations: [Option<NonZeroU32>; 2],
    pub(super) labels: Labels,
    /// One per label.
    pub(super) label_links: [Link; Labels::MOST],
    pub(super) timer_link: Link,
    pub(super) unsettled_link: Link,
    /// Tells it from those that had its place before.
    pub(super) stamp: u32,
    /// 0 for what the protocol says.
    pub(super) idle_ms: u32,
    pub(super) zone: Zone,
    pub(super) owner: Zone,
    pub(super) state: State,
    pub(super) phase: Phase,
    /// Where it is.
    pub(super) shard: u8,
    /// Where its timer is.
    pub(super) bucket: u8,
    pub(super) marks: Marks,
}

/// Packets that took a direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub packets: u64,
    /// Bytes of their frames.
    pub bytes: u64,
}

/// What a connection depends on: the ports it goes by, and the tags filters stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labels {
    tags: [u32; Self::MOST],
    len: u8,
}

/// A connection comes and goes in steps, since its keys may be in different shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not found by packets yet: its keys are being taken.
    Opening,
    /// Found by packets.
    Live,
    /// Not found by packets any more; its keys are not free yet.
    Leaving,
    /// Somebody is freeing its keys.
    Freeing,
}

/// What happened to a connection so far, beside its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// A packet of the reply direction was seen.
    pub(super) replied: bool,
    /// Both sides take part, so it is nobody's flood: it is not evicted any more.
    pub(super) settled: bool,
    /// Which directions had packets that are not bare SYNs.
    pub(super) spoke: [bool; 2],
    /// The kernel may have carried packets that user space never saw.
    pub(super) cached: bool,
    /// It has to make room, unless the kernel saw it settle.
    pub(super) evicted: bool,
}

/// What a packet says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It belongs to it.
    Fits,
    /// It passes, but does not keep the connection alive.
    Ignored,
    /// It breaks the protocol.
    Invalid,
    /// It opens another connection.
    Afresh,
}

impl Connection {
    pub(super) fn key(&self, direction: Direction) -> Key {
        match direction {
            Direction::Original => Key::of(&self.slot, self.zone),
            Direction::Reply => self.reply,
        }
    }

    /// Which of its directions has this key.
    #[inline]
    pub(super) fn direction_of(&self, key: &Key) -> Option<Direction> {
        Direction::BOTH.into_iter().find(|&direction| self.key(direction) == *key)
    }

    /// Its id, if it is at this place of its shard.
    pub(super) fn id(&self, at: u32) -> ConnectionId {
        ConnectionId { place: Place::new(usize::from(self.shard), at), stamp: self.stamp }
    }

    /// Its labels, if its ways depend on `tags`.
    pub(super) fn labels_with(&self, tags: &Tags) -> Labels {
        let [there, back] = self.ways.map(|way| way.verdict.egress);
        // behind a zone that is not one port, the port is the one that leads there
        let port = |zone: Zone, egress| if zone.is_port() { zone.number() } else { egress };
        Labels::new([port(self.zone, back), port(self.reply.zone, there)], tags)
    }

    /// When it is over if nothing else is seen.
    pub(super) fn ends_ns(&self, timeouts: &Timeouts) -> u64 {
        let [original, reply] = self.last_seen_ns;
        let of_protocol = timeouts.silence(self.slot.protocol, self.state, self.marks.settled);
        let stated = self.idle_ms != 0
            && self.marks.settled
            && matches!(self.state, State::Replied | State::Tcp(TcpState::Established));
        let silence = match stated {
            true => u64::from(self.idle_ms) * NS_PER_MS,
            false => u64::try_from(of_protocol.as_nanos()).unwrap_or(u64::MAX),
        };
        original.max(reply).saturating_add(silence)
    }

    /// Notes a packet that user space has.
    #[inline]
    pub(super) fn see(&mut self, direction: Direction, packet: Packet) -> Seen {
        let seen = match self.state {
            State::Tcp(state) => self.see_segment(state, direction, packet.tcp_flags),
            State::Unreplied | State::Replied => {
                if direction == Direction::Reply {
                    self.answered();
                }
                Seen::Fits
            }
        };
        let side = direction as usize;
        if matches!(seen, Seen::Fits | Seen::Ignored) {
            self.traffic[side].add(1, u64::from(packet.len));
        }
        if seen == Seen::Fits {
            self.last_seen_ns[side] = self.last_seen_ns[side].max(packet.now_ns);
        }
        seen
    }

    /// Notes that the kernel saw a direction begin to close.
    pub(super) fn closing(&mut self, direction: Direction, how: Closing, now_ns: u64) {
        let State::Tcp(state) = self.state else { return };
        let side = direction as usize;
        self.last_seen_ns[side] = self.last_seen_ns[side].max(now_ns);
        self.marks.replied |= direction == Direction::Reply;
        self.marks.cached = true;
        let next = match (how, state) {
            // refused, rather than broken off
            (Closing::Reset, state) if !state.is_synchronised() => TcpState::Close,
            (Closing::Reset, state) => match state.after(direction, Segment::Rst) {
                Step::To(next) => next,
                _ => state,
            },
            // the kernel carried what led here, and will carry the ACK of the second FIN
            (Closing::Fin, TcpState::TimeWait | TcpState::Close) => state,
            (Closing::Fin, TcpState::FinWait | TcpState::CloseWait | TcpState::LastAck) => {
                TcpState::TimeWait
            }
            (Closing::Fin, _) => TcpState::FinWait,
        };
        self.advance(next);
    }

    /// Adds what the kernel carried.
    pub(super) fn absorb(&mut self, direction: Direction, usage: &Usage) {
        let side = direction as usize;
        self.last_seen_ns[side] = self.last_seen_ns[side].max(usage.last_seen_ns);
        if usage.packets == 0 {
            return;
        }
        self.traffic[side].add(usage.packets, usage.bytes);
        self.marks.cached = true;
        match (self.state, direction) {
            (State::Tcp(state), _) => {
                self.marks.replied |= direction == Direction::Reply;
                self.marks.spoke[side] |= usage.beyond_syn;
                self.advance(self.carried(state));
            }
            (_, Direction::Reply) => self.answered(),
            (_, Direction::Original) => {}
        }
    }

    fn see_segment(&mut self, state: TcpState, direction: Direction, flags: Flags) -> Seen {
        let Some(segment) = Segment::of(flags) else { return Seen::Invalid };
        let side = direction as usize;
        match state.after(direction, segment) {
            Step::To(next) => {
                self.marks.replied |= direction == Direction::Reply;
                self.marks.spoke[side] |= segment != Segment::Syn;
                self.advance(next);
                Seen::Fits
            }
            // where the kernel may have carried the rest of the handshake, this can be its end
            Step::Invalid | Step::Ignored
                if self.marks.cached
                    && !state.is_synchronised()
                    && matches!(segment, Segment::Ack | Segment::Fin) =>
            {
                self.marks.replied |= direction == Direction::Reply;
                self.marks.spoke[side] = true;
                self.advance(self.carried(state));
                Seen::Fits
            }
            Step::Ignored => Seen::Ignored,
            Step::Invalid if self.marks.cached => Seen::Ignored,
            Step::Invalid => Seen::Invalid,
            Step::Afresh => Seen::Afresh,
        }
    }

    /// What a handshake has come to that the kernel carried: it is over when each side has sent
    /// more than SYNs.
    fn carried(&self, state: TcpState) -> TcpState {
        let shaking =
            matches!(state, TcpState::SynSent | TcpState::SynSent2 | TcpState::SynReceived);
        if shaking && self.marks.spoke == [true; 2] { TcpState::Established } else { state }
    }

    fn advance(&mut self, next: TcpState) {
        self.state = State::Tcp(next);
        self.marks.settled |= self.marks.replied && next.is_synchronised();
    }

    fn answered(&mut self) {
        self.state = State::Replied;
        self.marks.replied = true;
        self.marks.settled = true;
    }
}

impl Traffic {
    fn add(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

impl Labels {
    /// How many there are at most: a connection's tags and both its ports.
    pub const MOST: usize = limits::MAX_TAGS + 2;

    fn new(ports: [u16; 2], tags: &Tags) -> Self {
        let mut labels = Self::NONE;
        let ports = ports.into_iter().filter(|&port| port != NO_PORT);
        let ports = ports.map(|port| Tag::new(TagKind::Port, u32::from(port)));
        for tag in ports.chain(tags.iter()) {
            if labels.position(tag).is_none() {
                labels.tags[usize::from(labels.len)] = tag.bits();
                labels.len += 1;
            }
        }
        labels
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Tag> {
        self.tags[..usize::from(self.len)].iter().map(|&bits| Tag::from_bits(bits))
    }

    pub(super) const NONE: Self = Self { tags: [0; Self::MOST], len: 0 };

    pub(super) fn position(&self, tag: Tag) -> Option<usize> {
        self.iter().position(|present| present == tag)
    }
}

const NS_PER_MS: u64 = 1_000_000;
