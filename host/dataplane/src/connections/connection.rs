//! One connection, as the table keeps it.

use std::num::NonZeroU32;

use millrace_abi::{NO_PORT, Tag, TagKind, limits};
use millrace_wire::tcp::Flags;

use super::list::Link;
use super::marks::{Mark, Marks};
use super::opener::Opener;
use super::tcp::{Segment, Step, TcpState};
use super::wheel::TICK_BITS;
use super::{Closing, Direction, Key, Packet, State, Timeouts, Usage, Way, Zone};
use crate::verdict::Tags;

/// One connection. What there are two of is by [`Direction`].
pub(super) struct Connection {
    pub(super) keys: [Key; 2],
    pub(super) opener: Opener,
    pub(super) ways: [Way; 2],
    /// 0 for never.
    pub(super) last_seen_ns: [u64; 2],
    pub(super) traffic: [Traffic; 2],
    /// Of the entries in the kernel's cache.
    pub(super) generations: [Option<NonZeroU32>; 2],
    pub(super) labels: Labels,
    /// One per label.
    pub(super) label_links: [Link; Labels::MOST],
    pub(super) timer_link: Link,
    pub(super) row_link: Link,
    /// Tells it from those that had its place before.
    pub(super) stamp: u32,
    /// Until this tick of its timer, somebody has it to retire; 0 if nobody had.
    pub(super) handed_out: u32,
    /// 0 for what the protocol says.
    pub(super) idle_ms: u32,
    /// Raised whenever its ways are others: what was derived from those before does not count.
    pub(super) revision: u32,
    pub(super) state: State,
    pub(super) phase: Phase,
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
pub struct Labels([u32; Self::MOST]);

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

/// What a packet says about its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// It belongs to it, which is in this state then.
    Fits(State),
    /// It passes, but does not keep the connection alive.
    Ignored,
    /// It breaks the protocol.
    Invalid,
    /// It opens another connection.
    Afresh,
}

impl Connection {
    pub(super) fn key(&self, direction: Direction) -> Key {
        self.keys[direction as usize]
    }

    /// Whose share it is of: that of the port that its opener came in by.
    pub(super) fn owner(&self) -> Zone {
        self.opener.owner()
    }

    /// Whether both sides take part in it.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.marks.has(Mark::Settled)
    }

    /// Which of its directions has this key.
    #[inline]
    pub(super) fn direction_of(&self, key: &Key) -> Option<Direction> {
        Direction::BOTH.into_iter().find(|&direction| self.key(direction) == *key)
    }

    /// Shows the stage at `position` no more packets; whether that leaves none that sees any.
    pub(super) fn look_away(&mut self, position: usize) -> bool {
        let was_seen = self.is_seen();
        for way in &mut self.ways {
            way.verdict.inspect &= !(1 << position);
        }
        was_seen && !self.is_seen()
    }

    /// Whether stages look into it.
    pub(super) fn is_seen(&self) -> bool {
        self.ways.iter().any(|way| way.verdict.inspect != 0)
    }

    /// Whether nothing came of it yet but the packet that opened it.
    pub(super) fn is_new(&self) -> bool {
        self.traffic.iter().map(|traffic| traffic.packets).sum::<u64>() <= 1
    }

    /// Whether a packet came back.
    pub(super) fn is_replied(&self) -> bool {
        self.last_seen_ns[Direction::Reply as usize] != 0
    }

    /// Its labels, if its ways depend on `tags`.
    pub(super) fn labels_with(&self, tags: &Tags) -> Labels {
        Labels::of(&self.keys, &self.ways, tags)
    }

    /// When it is over if nothing else is seen.
    pub(super) fn ends_ns(&self, timeouts: &Timeouts) -> u64 {
        let of_protocol = timeouts.silence(self.keys[0].protocol, self.state, self.is_settled());
        let stated = self.idle_ms != 0
            && self.is_settled()
            && matches!(self.state, State::Replied | State::Tcp(TcpState::Established));
        let silence = match stated {
            true => u64::from(self.idle_ms) * NS_PER_MS,
            false => u64::try_from(of_protocol.as_nanos()).unwrap_or(u64::MAX),
        };
        self.heard_ns().saturating_add(silence)
    }

    /// When the kernel is to have no entries of it any more if nothing else is seen; never if it has
    /// none.
    pub(super) fn leaves_kernel_ns(&self, timeouts: &Timeouts) -> u64 {
        let stay = match self.state.is_over() {
            true => timeouts.residency.min(timeouts.aftermath),
            false => timeouts.residency,
        };
        let stay = u64::try_from(stay.as_nanos()).unwrap_or(u64::MAX);
        if self.is_carried() { self.heard_ns().saturating_add(stay) } else { u64::MAX }
    }

    fn heard_ns(&self) -> u64 {
        let [original, reply] = self.last_seen_ns;
        original.max(reply)
    }

    /// Whether a connection that was due is not over: packets came, or it settled when it had to
    /// make room.
    pub(super) fn goes_on(&self, timeouts: &Timeouts, now_ns: u64) -> bool {
        match self.marks.has(Mark::Evicted) {
            true => self.is_settled(),
            false => self.ends_ns(timeouts) > now_ns,
        }
    }

    /// When it is to be looked at next.
    pub(super) fn look_ns(&self, timeouts: &Timeouts) -> u64 {
        let handed_out_ns = u64::from(self.handed_out) << TICK_BITS;
        match self.phase {
            Phase::Live if !self.marks.has(Mark::Evicted) => {
                let next = self.ends_ns(timeouts).min(self.leaves_kernel_ns(timeouts));
                next.max(handed_out_ns)
            }
            _ => handed_out_ns,
        }
    }

    /// Notes a packet that user space has.
    #[inline]
    pub(super) fn see(&mut self, direction: Direction, packet: Packet) -> Seen {
        let seen = match self.state {
            State::Tcp(state) => self.judge(state, direction, packet.tcp_flags),
            State::Unreplied | State::Replied => Seen::Fits(self.state),
        };
        if matches!(seen, Seen::Fits(_) | Seen::Ignored) {
            self.traffic[direction as usize].add(1, u64::from(packet.len));
        }
        if let Seen::Fits(next) = seen {
            self.seen_at(direction, packet.now_ns);
            self.advance(next);
        }
        seen
    }

    /// Notes that the kernel saw a direction begin to close.
    pub(super) fn closing(&mut self, direction: Direction, how: Closing, now_ns: u64) {
        let State::Tcp(state) = self.state else { return };
        self.seen_at(direction, now_ns);
        self.marks.set(Mark::Cached, true);
        // an end that is told of twice is one end
        if how == Closing::Fin && self.marks.has(Mark::ended(direction)) {
            return;
        }
        self.marks.add(Mark::ended(direction), how == Closing::Fin);
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
        self.advance(State::Tcp(next));
    }

    /// Adds what the kernel carried.
    pub(super) fn absorb(&mut self, direction: Direction, usage: &Usage) {
        self.observe(direction, usage);
        self.traffic[direction as usize].add(usage.packets, usage.bytes);
    }

    /// Learns from what the kernel carried so far.
    pub(super) fn observe(&mut self, direction: Direction, usage: &Usage) {
        if usage.packets == 0 {
            return;
        }
        self.seen_at(direction, usage.last_seen_ns);
        self.marks.set(Mark::Cached, true);
        self.marks.add(Mark::spoke(direction), usage.beyond_syn);
        let next = match self.state {
            State::Tcp(state) => State::Tcp(self.carried(state)),
            other => other,
        };
        self.advance(next);
        // the event that told of it may have found no room
        if let Some(how) = usage.closing {
            self.closing(direction, how, usage.last_seen_ns);
        }
    }

    /// Judges a segment, and notes whether it is more than a SYN.
    fn judge(&mut self, state: TcpState, direction: Direction, flags: Flags) -> Seen {
        let Some(segment) = Segment::of(flags) else { return Seen::Invalid };
        let is_cached = self.marks.has(Mark::Cached);
        let shaking = is_cached && !state.is_synchronised();
        let goes_on = matches!(segment, Segment::Ack | Segment::Fin);
        match state.after(direction, segment) {
            Step::To(next) => {
                self.marks.add(Mark::spoke(direction), segment != Segment::Syn);
                self.marks.add(Mark::ended(direction), segment == Segment::Fin);
                Seen::Fits(State::Tcp(next))
            }
            // where the kernel may have carried the rest of the handshake, this can be its end
            Step::Invalid | Step::Ignored if shaking && goes_on => {
                self.marks.set(Mark::spoke(direction), true);
                Seen::Fits(State::Tcp(self.carried(state)))
            }
            Step::Ignored => Seen::Ignored,
            Step::Invalid if is_cached => Seen::Ignored,
            Step::Invalid => Seen::Invalid,
            Step::Afresh => Seen::Afresh,
        }
    }

    fn seen_at(&mut self, direction: Direction, now_ns: u64) {
        let last_seen_ns = &mut self.last_seen_ns[direction as usize];
        *last_seen_ns = now_ns.max(*last_seen_ns);
    }

    /// What a handshake has come to that the kernel carried: it is over when each side has sent
    /// more than SYNs.
    fn carried(&self, state: TcpState) -> TcpState {
        let shaking =
            matches!(state, TcpState::SynSent | TcpState::SynSent2 | TcpState::SynReceived);
        let spoke = Direction::BOTH.into_iter().all(|side| self.marks.has(Mark::spoke(side)));
        if shaking && spoke { TcpState::Established } else { state }
    }

    /// Takes the next state; settles what both sides take part in.
    fn advance(&mut self, next: State) {
        let replied = self.is_replied();
        let (next, settled) = match next {
            State::Tcp(state) => (next, self.is_settled() || (replied && state.is_synchronised())),
            _ if replied => (State::Replied, true),
            _ => (State::Unreplied, false),
        };
        self.state = next;
        self.marks.set(Mark::Settled, settled);
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

    pub(super) const NONE: Self = Self([0; Self::MOST]);

    /// Those of a connection with these keys, if its ways depend on `tags`.
    pub(crate) fn of([key, reply]: &[Key; 2], ways: &[Way; 2], tags: &Tags) -> Self {
        let [there, back] = ways.map(|way| way.verdict.egress);
        // behind a zone that is not one port, the port is the one that leads there
        let port = |zone: Zone, egress| if zone.is_port() { zone.number() } else { egress };
        let mut labels = Self::NONE;
        let ports = [port(key.zone, back), port(reply.zone, there)]
            .into_iter()
            .filter(|&port| port != NO_PORT);
        let ports = ports.map(|port| Tag::new(TagKind::Port, u32::from(port)));
        // a tag of nothing cannot change
        let tags = tags.iter().filter(|&tag| tag.bits() != 0);
        for tag in ports.chain(tags) {
            if labels.position(tag).is_none() {
                let len = labels.iter().count();
                labels.0[len] = tag.bits();
            }
        }
        labels
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Tag> {
        self.0.into_iter().take_while(|&bits| bits != 0).map(Tag::from_bits)
    }

    pub(super) fn position(&self, tag: Tag) -> Option<usize> {
        self.iter().position(|present| present == tag)
    }
}

const NS_PER_MS: u64 = 1_000_000;

const _: () = assert!(
    size_of::<Option<Connection>>() <= 400,
    "all told it may be 512: keys take up to 60, and an entry that waits up to 21"
);
