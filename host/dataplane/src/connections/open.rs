//! Opening a connection: its keys are taken one by one, and packets find it when it has both.

use std::time::Duration;

use millrace_abi::{Reason, Slot};
use millrace_wire::{IpProtocol, tcp::Flags};

use super::connection::{Connection, Labels, Phase, Traffic};
use super::list::Link;
use super::marks::Marks;
use super::opener::Opener;
use super::tcp::Segment;
use super::walk::milliseconds;
use super::{ConnectionId, Connections, Due, Key, State, Way, Zone};
use crate::verdict::Tags;

/// What is known of a connection when it is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// The packet that opens it, which is counted; it is of the share of the port it came in by.
    pub slot: Slot,
    /// Where that came in.
    pub zone: Zone,
    /// What answers look like when they come in; translated, if the packets are.
    pub reply: Key,
    /// What happens to the packets, by direction.
    pub ways: [Way; 2],
    /// What that depends on.
    pub tags: Tags,
    /// How long it may be silent once both sides take part, if not for as long as its protocol
    /// has it.
    pub idle: Option<Duration>,
}

/// A connection was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Which.
    pub id: ConnectionId,
    /// What answers look like when they come in.
    pub reply: Key,
    /// One that was over and had the same key. It is gone; what it left in the kernel is not.
    pub replaced: Option<Due>,
    /// One that has to make room.
    pub evicted: Option<Due>,
}

/// Why a connection was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is one with its key: somebody was quicker, and its packets are found; or it has not
    /// been retired yet, and they are not.
    #[error("a connection with the same key is there")]
    Open,
    /// Answers would be those of another connection: it needs another translation.
    #[error("its answers would belong to another connection")]
    ReplyTaken,
    /// The packet is dropped.
    #[error("{reason}", reason = .0.help())]
    Refused(Reason),
}

impl Opening {
    /// Whose share it is of.
    ///
    /// # Panics
    /// If the packet came in by no port.
    pub(super) fn owner(&self) -> Zone {
        Zone::port(self.slot.ingress)
    }
}

/// Who has a key.
struct Holder {
    id: ConnectionId,
    /// It makes way for another one.
    over: bool,
}

/// Whether a packet that belongs to no connection may open one.
///
/// # Errors
/// Why it may not.
pub fn may_open(slot: &Slot) -> Result<(), Reason> {
    let opens = match IpProtocol(slot.protocol) {
        IpProtocol::TCP => Segment::of(Flags(slot.tcp_flags)) == Some(Segment::Syn),
        IpProtocol::ICMPV4 => slot.icmp_type == ECHO_REQUEST_V4,
        IpProtocol::ICMPV6 => slot.icmp_type == ECHO_REQUEST_V6,
        _ => true,
    };
    if opens { Ok(()) } else { Err(Reason::InvalidState) }
}

impl Connections {
    /// Opens a connection.
    ///
    /// # Errors
    /// Why it was not opened; no packet finds another way for it.
    pub fn open(&self, opening: &Opening) -> Result<Opened, OpenError> {
        let original = Key::of(&opening.slot, opening.zone);
        let over = match self.holder(&original) {
            Some(Holder { over: false, .. }) => return Err(OpenError::Open),
            holder => holder.map(|over| over.id),
        };
        let answered = self.holder(&opening.reply).map(|answered| answered.id);
        if original == opening.reply || (answered.is_some() && answered != over) {
            return Err(OpenError::ReplyTaken);
        }
        let replaced = over.and_then(|id| Some(self.let_go(id)?.due(id)));
        let near = self.locate(&original).shard;
        let opened = match self.admit(opening.owner(), near, opening.slot.now_ns) {
            Ok(evicted) => match self.insert(opening, &original) {
                Ok(id) => return Ok(Opened { id, reply: opening.reply, replaced, evicted }),
                Err(error) => {
                    self.owners.loses(opening.owner());
                    Err(error)
                }
            },
            Err(reason) => Err(OpenError::Refused(reason)),
        };
        // what has left something in the kernel must not be forgotten for that
        self.leftovers.lock().extend(replaced);
        opened
    }

    fn holder(&self, key: &Key) -> Option<Holder> {
        self.with_holder(key, |shard, at, _| {
            let id = shard.id(at);
            let connection = shard.slab.present(at);
            Holder { id, over: connection.phase == Phase::Live && connection.state.is_over() }
        })
    }

    fn insert(&self, opening: &Opening, original: &Key) -> Result<ConnectionId, OpenError> {
        let home = self.locate(original);
        let away = self.locate(&opening.reply);
        let mut shard = self.lock(home.shard);
        let id = shard.put(Connection::opening(opening, original));
        let (place, at) = (id.place, id.place.at());

        // first what others could have taken, so that whoever finds the connection can use it
        let reply_taken = if home.shard == away.shard {
            !shard.index.put(away.print, place)
        } else {
            drop(shard);
            let taken = !self.lock(away.shard).index.put(away.print, place);
            shard = self.lock(home.shard);
            taken
        };
        if reply_taken {
            shard.slab.take(at);
            return Err(OpenError::ReplyTaken);
        }
        if shard.index.put(home.print, place) {
            shard.begin(at, &self.timeouts, &self.owners);
            return Ok(id);
        }

        // somebody was quicker; the place is free when no key leads there any more
        if home.shard == away.shard {
            shard.index.take(away.print, place);
        } else {
            drop(shard);
            self.lock(away.shard).index.take(away.print, place);
            shard = self.lock(home.shard);
        }
        shard.slab.take(at);
        Err(OpenError::Open)
    }
}

impl Connection {
    fn opening(opening: &Opening, original: &Key) -> Self {
        let Opening { slot, zone: _, reply, ways, tags, idle } = opening;
        let mut connection = Self {
            keys: [*original, *reply],
            opener: Opener::of(slot),
            ways: *ways,
            last_seen_ns: [slot.now_ns, 0],
            traffic: [Traffic { packets: 1, bytes: u64::from(slot.len) }, Traffic::default()],
            generations: [None; 2],
            labels: Labels::NONE,
            label_links: [Link::ALONE; Labels::MOST],
            timer_link: Link::ALONE,
            row_link: Link::ALONE,
            stamp: 0,
            handed_out: 0,
            idle_ms: milliseconds(*idle),
            revision: 0,
            state: State::opening(slot.protocol),
            phase: Phase::Opening,
            bucket: 0,
            marks: Marks::default(),
        };
        connection.labels = connection.labels_with(tags);
        connection
    }
}

/// RFC 792.
const ECHO_REQUEST_V4: u8 = 8;
/// RFC 4443.
const ECHO_REQUEST_V6: u8 = 128;
