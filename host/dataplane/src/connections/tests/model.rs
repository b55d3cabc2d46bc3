//! Any sequence of events gives what a plain list of connections gives.

use std::collections::BTreeSet;

use millrace_abi::{Reason, Tag, TagKind};
use proptest::prelude::*;

use super::*;

/// A timer may be this late.
const TICK: u64 = 1 << super::super::wheel::TICK_BITS;

#[derive(Clone, Debug)]
enum Event {
    Open { which: Which, tag: Option<u32> },
    Packet { which: Which, direction: Direction, flags: Flags },
    Later { seconds: u64 },
    Anew { nth: usize, tag: u32, answers: u16 },
    Remove { port: u16 },
}

/// One of few connections, so that their keys meet.
#[derive(Clone, Copy, Debug)]
struct Which {
    protocol: u8,
    client: u16,
    owner: u16,
    /// The port that the source is translated to, if it is.
    nat: Option<u16>,
}

struct Known {
    id: ConnectionId,
    opening: Opening,
    state: State,
    replied: bool,
    settled: bool,
    last_seen_ns: u64,
    packets: [u64; 2],
    tags: Vec<Tag>,
}

/// All connections, in the order in which they were opened.
struct Model {
    known: Vec<Known>,
    per_owner: usize,
    timeouts: Timeouts,
    now_ns: u64,
}

impl Which {
    fn opening(self, now_ns: u64) -> Opening {
        let owner = Zone::port(self.owner);
        let ingress = self.owner;
        let slot = Slot { now_ns, ingress, ..slot(self.protocol, u32::from(self.client), 80) };
        let mut reply = Key::of(&slot, owner).reversed(SERVER);
        if let Some(port) = self.nat {
            reply.destination = Endpoint { address: [8; 16], port };
        }
        Opening { reply, zone: owner, ..opening(slot) }
    }
}

impl Known {
    fn keys(&self) -> [Key; 2] {
        [Key::of(&self.opening.slot, self.opening.zone), self.opening.reply]
    }

    fn ends_ns(&self, timeouts: &Timeouts) -> u64 {
        let silence = timeouts.silence(self.opening.slot.protocol, self.state, self.settled);
        self.last_seen_ns + silence.as_nanos() as u64
    }

    fn see(&mut self, direction: Direction, flags: Flags, now_ns: u64) -> Option<Standing> {
        let back = direction == Direction::Reply;
        match self.state {
            State::Tcp(state) => match state.step(direction, flags) {
                Step::To(next) => {
                    self.state = State::Tcp(next);
                    self.replied |= back;
                    self.settled |= self.replied && next.is_synchronised();
                    self.last_seen_ns = now_ns;
                }
                Step::Ignored => {}
                Step::Invalid => return Some(Standing::Invalid),
                Step::Afresh => return None,
            },
            _ => {
                if back {
                    (self.state, self.replied, self.settled) = (State::Replied, true, true);
                }
                self.last_seen_ns = now_ns;
            }
        }
        self.packets[direction as usize] += 1;
        Some(Standing::Fits)
    }
}

impl Model {
    fn with_key(&self, key: &Key) -> Option<usize> {
        self.known.iter().position(|known| known.keys().contains(key))
    }

    /// What opening should come to, and whom it costs.
    fn open(&mut self, opening: &Opening) -> Result<(), OpenError> {
        let key = Key::of(&opening.slot, opening.zone);
        let holder = self.with_key(&key);
        let over = holder.is_some_and(|at| self.known[at].state.is_over());
        if holder.is_some() && !over {
            return Err(OpenError::Open);
        }
        let answerer = self.with_key(&opening.reply);
        if answerer.is_some() && answerer != holder {
            return Err(OpenError::ReplyTaken);
        }
        holder.map(|at| self.known.remove(at));
        let own = |known: &Known| known.opening.owner() == opening.owner();
        if self.known.iter().filter(|known| own(known)).count() == self.per_owner {
            let oldest = self.known.iter().position(|known| own(known) && !known.settled);
            let oldest = oldest.ok_or(OpenError::Refused(Reason::ConnectionLimit))?;
            self.known.remove(oldest);
        }
        Ok(())
    }

    fn tagged(&self, tag: Tag) -> BTreeSet<ConnectionId> {
        let has = |known: &&Known| known.tags.contains(&tag);
        self.known.iter().filter(has).map(|known| known.id).collect()
    }
}

fn service(number: u32) -> Tag {
    Tag::new(TagKind::Service, number)
}

fn tags(tag: Option<u32>) -> Tags {
    let mut tags = Tags::default();
    if let Some(tag) = tag {
        assert!(tags.add(service(tag)));
    }
    tags
}

fn whiches() -> impl Strategy<Value = Which> {
    let nat = prop::option::of(40_000..40_003u16);
    (prop::sample::select(vec![6u8, 17]), 1..8u16, 3..5u16, nat)
        .prop_map(|(protocol, client, owner, nat)| Which { protocol, client, owner, nat })
}

fn events() -> impl Strategy<Value = Event> {
    let flags = prop::sample::select(vec![SYN, SYN_ACK, ACK, ACK, ACK, FIN, FIN, RST, Flags::NONE]);
    let direction = prop::sample::select(Direction::BOTH.to_vec());
    prop_oneof![
        4 => (whiches(), prop::option::of(0..3u32))
            .prop_map(|(which, tag)| Event::Open { which, tag }),
        12 => (whiches(), direction, flags)
            .prop_map(|(which, direction, flags)| Event::Packet { which, direction, flags }),
        2 => prop_oneof![0..20u64, 0..500u64].prop_map(|seconds| Event::Later { seconds }),
        1 => (0..9usize, 0..3u32, 2..4u16)
            .prop_map(|(nth, tag, answers)| Event::Anew { nth, tag, answers }),
        1 => (3..5u16).prop_map(|port| Event::Remove { port }),
    ]
}

fn run(shards: usize, per_owner: usize, events: Vec<Event>) -> Result<(), TestCaseError> {
    let limits = Limits { total: 1000, per_owner };
    let table = Connections::new(Settings { limits, shards, ..Settings::default() });
    let mut model = Model {
        known: Vec::new(),
        per_owner,
        timeouts: Timeouts::default(),
        now_ns: 1000 * SECOND,
    };
    for event in events {
        match event {
            Event::Open { which, tag } => {
                let opening = Opening { tags: tags(tag), ..which.opening(model.now_ns) };
                let outcome = table.open(&opening);
                prop_assert_eq!(outcome.map(|_| ()), model.open(&opening));
                let Ok(opened) = outcome else { continue };
                model.known.push(Known {
                    id: opened.id,
                    state: State::opening(which.protocol),
                    replied: false,
                    settled: false,
                    last_seen_ns: model.now_ns,
                    packets: [1, 0],
                    tags: [Zone::port(which.owner), SERVER]
                        .map(|zone| Tag::new(TagKind::Port, u32::from(zone.number())))
                        .into_iter()
                        .chain(tag.map(service))
                        .collect(),
                    opening,
                });
            }
            Event::Packet { which, direction, flags } => {
                let opening = which.opening(model.now_ns);
                let key = match direction {
                    Direction::Original => Key::of(&opening.slot, opening.zone),
                    Direction::Reply => opening.reply,
                };
                let found = table.find(&key, packet(flags, model.now_ns));
                let now_ns = model.now_ns;
                let expected = model.with_key(&key).and_then(|at| {
                    let known = &mut model.known[at];
                    let direction = Direction::BOTH[usize::from(known.keys()[1] == key)];
                    let standing = known.see(direction, flags, now_ns)?;
                    Some((known.id, direction, standing, known.state))
                });
                let found =
                    found.map(|found| (found.id, found.direction, found.standing, found.state));
                prop_assert_eq!(found, expected);
            }
            Event::Later { seconds } => {
                model.now_ns += seconds * SECOND;
                for due in table.due(model.now_ns, usize::MAX) {
                    let at = model.known.iter().position(|known| known.id == due.id);
                    let Some(at) = at else {
                        // it made way for one that was refused then
                        prop_assert_eq!(table.retire(due.id, model.now_ns), Retirement::Gone);
                        continue;
                    };
                    let known = model.known.remove(at);
                    prop_assert!(known.ends_ns(&model.timeouts) <= model.now_ns, "early");
                    let Retirement::Retired(view) = table.retire(due.id, model.now_ns) else {
                        return Err(TestCaseError::fail("it was over"));
                    };
                    prop_assert_eq!(view.traffic.map(|side| side.packets), known.packets);
                    prop_assert_eq!((view.replied, view.settled), (known.replied, known.settled));
                }
                let late = |known: &Known| known.ends_ns(&model.timeouts) + TICK <= model.now_ns;
                prop_assert!(!model.known.iter().any(late), "late");
            }
            Event::Anew { nth, tag, answers } => {
                let Some(known) = model.known.get(nth) else { continue };
                let answers = Zone::port(answers);
                let reply = Key { zone: answers, ..known.opening.reply };
                let taken = model.with_key(&reply).is_some_and(|at| at != nth);
                let decided = Anew { answers, tags: tags(Some(tag)), ..anew(&[]) };
                let outcome = table.replace(known.id, &decided).map(|_| ());
                prop_assert_eq!(outcome, if taken { Err(AnewError::AnswersTaken) } else { Ok(()) });
                if taken {
                    continue;
                }
                let known = &mut model.known[nth];
                known.opening.reply = reply;
                known.tags.truncate(1);
                known.tags.extend([port(answers.number()), service(tag)]);
            }
            Event::Remove { port } => {
                let due = table.remove_port(port, model.now_ns);
                let removed: BTreeSet<_> = due.iter().map(|due| due.id).collect();
                let tag = Tag::new(TagKind::Port, u32::from(port));
                prop_assert_eq!(&removed, &model.tagged(tag));
                model.known.retain(|known| !removed.contains(&known.id));
                for due in due {
                    let retirement = table.retire(due.id, model.now_ns);
                    prop_assert!(matches!(retirement, Retirement::Retired(_)));
                }
            }
        }
        prop_assert_eq!(table.len(), model.known.len());
        for tag in (0..3).map(service) {
            prop_assert_eq!(BTreeSet::from_iter(table.by_tag(tag)), model.tagged(tag));
        }
        let all: BTreeSet<_> = model.known.iter().map(|known| known.id).collect();
        let (views, _) = table.all(Cursor::default(), usize::MAX);
        prop_assert_eq!(views.into_iter().map(|view| view.id).collect::<BTreeSet<_>>(), all);
    }
    Ok(())
}

proptest! {
    // with one shard, the oldest connection of an owner is the oldest of all
    #[test]
    fn a_table_is_a_list_of_connections(events in prop::collection::vec(events(), 1..120)) {
        run(1, 6, events)?;
    }

    // with many, the keys of what is translated are in different ones
    #[test]
    fn a_table_in_parts_is_a_list_of_connections(
        events in prop::collection::vec(events(), 1..120),
    ) {
        run(8, 1000, events)?;
    }
}
