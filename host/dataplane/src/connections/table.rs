//! All connections: finding that of a packet, and learning what the kernel saw.

use std::num::NonZeroU32;
use std::sync::atomic::AtomicUsize;

use millrace_wire::tcp::Flags;
use parking_lot::{Mutex, MutexGuard};

use super::connection::{Connection, Phase, Seen};
use super::index::{Hashing, Located, Place};
use super::marks::Mark;
use super::owners::Owners;
use super::shard::Shard;
use super::{Direction, Due, Key, Limits, OwnerCounts, State, Timeouts, Translation, Way, Zone};

/// All connections, for all workers. Every call holds one lock at a time, for a short time.
pub struct Connections {
    pub(super) shards: Box<[Mutex<Shard>]>,
    pub(super) hashing: Hashing,
    pub(super) timeouts: Timeouts,
    pub(super) limits: Limits,
    pub(super) owners: Owners,
    /// What could not be handed to whom it concerned.
    pub(super) leftovers: Mutex<Vec<Due>>,
    /// The shard that comes first when something is due.
    pub(super) turn: AtomicUsize,
}

/// How the table is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long connections live.
    pub timeouts: Timeouts,
    /// How many there may be.
    pub limits: Limits,
    /// Parts with a lock each; rounded up to a power of two, at most 64.
    pub shards: usize,
}

/// Names a connection, and no other one that has its place later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub(super) place: Place,
    pub(super) stamp: u32,
}

/// What of a packet counts for its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Of TCP; ignored otherwise.
    pub tcp_flags: Flags,
    /// Bytes of its frame.
    pub len: u32,
    /// When it came.
    pub now_ns: u64,
}

/// The connection of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which connection.
    pub id: ConnectionId,
    /// Which way the packet goes.
    pub direction: Direction,
    /// Whether it may.
    pub standing: Standing,
    /// Where it goes.
    pub way: Way,
    /// What is rewritten.
    pub translation: Translation,
    /// How far the connection is, with this packet.
    pub state: State,
    /// The direction's entry in the kernel's cache, if it should have one.
    pub generation: Option<NonZeroU32>,
    /// How often something else was decided while it lived.
    pub revision: u32,
}

/// Whether a packet is like its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It may pass.
    Fits,
    /// It breaks the protocol, and is to be dropped as
    /// [`Reason::InvalidState`](millrace_abi::Reason::InvalidState). It was not counted.
    Invalid,
}

/// How the kernel saw a direction of TCP begin to close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// By a FIN.
    Fin,
    /// By an RST.
    Reset,
}

/// What the kernel carried of a direction since that was last told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// When the last packet came.
    pub last_seen_ns: u64,
    /// How many came.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Of TCP: whether any was not a bare SYN.
    pub beyond_syn: bool,
    /// Of TCP: how the direction ends, if it does.
    pub closing: Option<Closing>,
}

impl Connections {
    /// An empty table.
    pub fn new(settings: Settings) -> Self {
        let shards = settings.shards.clamp(1, Place::SHARDS).next_power_of_two();
        Self {
            shards: (0..shards).map(|number| Mutex::new(Shard::new(number))).collect(),
            hashing: Hashing::default(),
            timeouts: settings.timeouts,
            limits: settings.limits,
            owners: Owners::new(),
            leftovers: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The connection that a packet belongs to, which is the further for it; nothing if the packet
    /// belongs to none, or opens another one in place of one that is over.
    #[inline]
    pub fn find(&self, key: &Key, packet: Packet) -> Option<Found> {
        self.with_key(key, |shard, at, direction| {
            let watch = (&self.timeouts, &self.owners);
            let seen = shard.change(at, watch, |connection| connection.see(direction, packet));
            let standing = match seen {
                Seen::Fits(_) | Seen::Ignored => Standing::Fits,
                Seen::Invalid => Standing::Invalid,
                Seen::Afresh => return None,
            };
            Some(shard.found(at, direction, standing))
        })
        .flatten()
    }

    /// The connection of a packet that somebody else speaks of, as an ICMP error does: it is none
    /// the further for it.
    pub fn related(&self, key: &Key) -> Option<Found> {
        self.with_key(key, |shard, at, direction| shard.found(at, direction, Standing::Fits))
    }

    /// Notes that the kernel saw the direction with this key begin to close, by its entry of this
    /// generation.
    pub fn closing(&self, key: &Key, generation: NonZeroU32, how: Closing, now_ns: u64) {
        self.by_kernel(key, generation, |connection, direction| {
            connection.closing(direction, how, now_ns);
        });
    }

    /// Learns from what the kernel carried so far of the direction with this key, by its entry of
    /// this generation, which stays there and goes on counting.
    pub fn observe(&self, key: &Key, generation: NonZeroU32, usage: &Usage) {
        self.by_kernel(key, generation, |connection, direction| {
            connection.observe(direction, usage);
        });
    }

    /// Adds what the kernel carried of the direction with this key, by its entry of this
    /// generation.
    pub fn absorb(&self, key: &Key, generation: NonZeroU32, usage: &Usage) {
        self.by_kernel(key, generation, |connection, direction| {
            connection.absorb(direction, usage);
        });
    }

    /// Notes which entry a direction has in the kernel's cache now, made from what was decided as
    /// of this revision; false if the connection is gone or decided otherwise, and the entry has to
    /// go as well.
    pub fn cached(
        &self,
        id: ConnectionId,
        direction: Direction,
        generation: Option<NonZeroU32>,
        revision: u32,
    ) -> bool {
        let mut shard = self.lock(id.place.shard());
        let as_decided =
            |known: &&mut Connection| known.phase == Phase::Live && known.revision == revision;
        let Some(connection) = shard.known(id).filter(as_decided) else { return false };
        connection.marks.add(Mark::Cached, generation.is_some());
        let (at, side) = (id.place.at(), direction as usize);
        shard.mutate(at, &self.owners, |connection| connection.generations[side] = generation);
        if generation.is_some() {
            // its entries leave the kernel sooner than it ends
            shard.set_timer(at, &self.timeouts);
        }
        true
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.owners.total()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What became of an owner's connections.
    pub fn owner(&self, owner: Zone) -> OwnerCounts {
        self.owners.of(owner)
    }

    /// Begins anew with what became of an owner's connections: another one gets its number.
    pub fn forget_counts(&self, owner: Zone) {
        self.owners.forget_counts(owner);
    }

    /// Lets a connection learn from the kernel, unless that speaks of an earlier one with its key.
    fn by_kernel(
        &self,
        key: &Key,
        generation: NonZeroU32,
        learn: impl FnOnce(&mut Connection, Direction),
    ) {
        self.with_holder(key, |shard, at, direction| {
            let connection = shard.slab.present(at);
            // an entry can be heard of before its worker has told us about it
            let known = connection.generations[direction as usize];
            if known.is_some_and(|known| known != generation) {
                return;
            }
            match connection.phase {
                Phase::Live => {
                    let watch = (&self.timeouts, &self.owners);
                    shard.change(at, watch, |connection| learn(connection, direction));
                }
                Phase::Leaving => learn(connection, direction),
                Phase::Opening | Phase::Freeing => {}
            }
        });
    }

    pub(super) fn locate(&self, key: &Key) -> Located {
        self.hashing.locate(key, self.shards.len())
    }

    pub(super) fn lock(&self, shard: usize) -> MutexGuard<'_, Shard> {
        self.shards[shard].lock()
    }

    /// Does something with the live connection that has the key.
    #[inline]
    pub(super) fn with_key<R>(
        &self,
        key: &Key,
        what: impl FnOnce(&mut Shard, u32, Direction) -> R,
    ) -> Option<R> {
        self.with_holder(key, |shard, at, direction| {
            let live = shard.slab.present(at).phase == Phase::Live;
            live.then(|| what(shard, at, direction))
        })
        .flatten()
    }

    /// Does something with the connection that has the key, live or not.
    #[inline]
    pub(super) fn with_holder<R>(
        &self,
        key: &Key,
        what: impl FnOnce(&mut Shard, u32, Direction) -> R,
    ) -> Option<R> {
        let located = self.locate(key);
        let mut shard = self.lock(located.shard);
        let place = shard.index.find(located.print)?;
        if place.shard() != located.shard {
            // never two at once: what changes in between, the comparison finds
            drop(shard);
            shard = self.lock(place.shard());
        }
        let direction = shard.slab.at(place.at())?.direction_of(key)?;
        Some(what(&mut shard, place.at(), direction))
    }
}

impl Shard {
    fn found(&mut self, at: u32, direction: Direction, standing: Standing) -> Found {
        let id = self.id(at);
        let connection = self.slab.present(at);
        let (from, back) = (connection.key(direction), connection.key(direction.other()));
        let side = direction as usize;
        Found {
            id,
            direction,
            standing,
            way: connection.ways[side],
            translation: Translation::between(&from, &back),
            state: connection.state,
            generation: connection.generations[side],
            revision: connection.revision,
        }
    }
}

impl Default for Settings {
    /// A million connections, half of them of one owner at most.
    fn default() -> Self {
        Self {
            timeouts: Timeouts::default(),
            limits: Limits { total: 1 << 20, per_owner: 1 << 19 },
            shards: 16,
        }
    }
}
