//! The entries: inserted, removed, and looked at.
//!
//! A reader must not break this: the entry of a flow that goes on is never inserted again. The
//! kernel would put a new element in its place, and what was counted and seen of the flow would be
//! lost.

use aya::maps::MapError;

use crate::cache::{MapFault, fault};
use crate::kernel::{Batch, Entries, insert_batch, lookup_batch, remove_batch, take_entry};
use crate::key::Raw;
use crate::layout::{PUNT, RawEntry, RawHead, RawKey};
use crate::translation::{Octets, entry};
use crate::{FlowCache, Forward, Generation, Key, Slot, Usage, Verdict};

/// A place in the walk through all entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    family: Family,
    bucket: Option<u32>,
}

/// Some entries, and where the walk goes on.
#[derive(Clone, Debug)]
pub struct Slice {
    /// At most [`FlowCache::SLICE`]; may be none before the end.
    pub entries: Vec<(Key, Usage)>,
    /// Nothing at the end of the walk.
    pub next: Option<Cursor>,
}

impl FlowCache {
    /// Entries in a slice, at most.
    pub const SLICE: usize = 4096;

    /// Installs an entry; packets take it from now on.
    ///
    /// # Errors
    /// If there is one with this key, or no room.
    pub fn insert(&mut self, key: &Key, verdict: &Verdict) -> Result<Generation, InsertError> {
        self.put(key, verdict, NO_EXIST, |_| 0)
    }

    /// Installs an entry, in place of that of a flow with this key that is over: what was seen of
    /// that flow's packets is lost.
    ///
    /// # Errors
    /// If there is no room.
    pub fn insert_over(&mut self, key: &Key, verdict: &Verdict) -> Result<Generation, InsertError> {
        self.put(key, verdict, ANY, |_| 0)
    }

    /// Installs an entry that forwards, and waits: packets take it when all that came before have
    /// left user space, as `slot` says. If there is no room, nor made any, what was punted is to be
    /// [forgotten](Self::forget_punted).
    ///
    /// # Errors
    /// If there is one with this key, or no room.
    pub fn insert_waiting(
        &mut self,
        key: &Key,
        forward: Forward,
        slot: &Slot,
    ) -> Result<Generation, InsertError> {
        let forward = Verdict::Forward(forward);
        self.put(key, &forward, NO_EXIST, |generation| slot.bind(generation))
    }

    /// Installs the entries of both directions, as [`insert_over`](Self::insert_over) does, by one
    /// system call: for a TCP connection, before its SYN is sent on, so that the answer finds its
    /// entry.
    ///
    /// # Errors
    /// If there is no room; the first may be there.
    pub fn insert_pair(
        &mut self,
        pair: [(&Key, &Verdict); 2],
    ) -> Result<[Generation; 2], InsertError> {
        let mut generation = || self.numbers.take().map_err(InsertError::Refused);
        let generations = [generation()?, generation()?];
        let verdicts = pair.map(|(_, verdict)| verdict);
        match pair.map(|(key, _)| key.0) {
            [Raw::V4(there), Raw::V4(back)] => {
                insert_both(&self.flows4, [there, back], verdicts, generations)?;
            }
            [Raw::V6(there), Raw::V6(back)] => {
                insert_both(&self.flows6, [there, back], verdicts, generations)?;
            }
            _ => return Err(InsertError::Families),
        }
        Ok(generations)
    }

    /// Forgets what was punted of a flow that has no entry: one that finds room later would wait
    /// for what no slot counts any more.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn forget_punted(&mut self, key: &Key) -> Result<(), MapFault> {
        match key.0 {
            Raw::V4(key) => if_there(self.punted4.remove(&key))?,
            Raw::V6(key) => if_there(self.punted6.remove(&key))?,
        };
        Ok(())
    }

    fn put(
        &mut self,
        key: &Key,
        verdict: &Verdict,
        flags: u64,
        slot: impl FnOnce(Generation) -> u32,
    ) -> Result<Generation, InsertError> {
        let generation = self.numbers.take().map_err(InsertError::Refused)?;
        let head = verdict.head(generation, Self::now());
        let head = RawHead { slot: slot(generation), ..head };
        let translation = verdict.translation();
        match key.0 {
            Raw::V4(key) => {
                let entry = entry(key, head, translation).ok_or(InsertError::Families)?;
                self.flows4.insert(key, entry, flags)
            }
            Raw::V6(key) => {
                let entry = entry(key, head, translation).ok_or(InsertError::Families)?;
                self.flows6.insert(key, entry, flags)
            }
        }
        .map_err(|error| InsertError::of(MapFault(error)))?;
        Ok(generation)
    }

    /// Removes an entry, and says what was seen of its packets to the last. What was punted of the
    /// flow while it waited, or punted its packets, is forgotten.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn retire(&mut self, key: &Key) -> Result<Option<Usage>, MapFault> {
        let head = self.take(key)?;
        if head.is_some_and(|head| head.slot != 0 || head.kind == PUNT) {
            self.forget_punted(key)?;
        }
        Ok(head.as_ref().map(Usage::from))
    }

    /// Removes an entry, as [`retire`](Self::retire) does, of a flow that goes on in user space: what
    /// was punted of it is counted on, for the entry that it has next.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn withdraw(&mut self, key: &Key) -> Result<Option<Usage>, MapFault> {
        Ok(self.take(key)?.as_ref().map(Usage::from))
    }

    fn take(&mut self, key: &Key) -> Result<Option<RawHead>, MapFault> {
        let refused = fault("bpf_map_lookup_and_delete_elem");
        let head = match key.0 {
            Raw::V4(key) => take_entry(&self.flows4, &key).map_err(refused)?.map(|it| it.head),
            Raw::V6(key) => take_entry(&self.flows6, &key).map_err(refused)?.map(|it| it.head),
        };
        if let Some(head) = &head {
            self.gone.add(key.from(), &Usage::from(head));
        }
        Ok(head)
    }

    /// Removes entries, and says how many there were. What was punted of these flows is forgotten.
    ///
    /// # Errors
    /// If the kernel refuses; some may be removed.
    pub fn remove(&mut self, keys: &[Key]) -> Result<usize, MapFault> {
        let (mut four, mut six) = (Vec::new(), Vec::new());
        for key in keys {
            if let Some(usage) = self.usage(key)? {
                self.gone.add(key.from(), &usage);
            }
            // before the entry, or a packet in between would be forgotten
            self.forget_punted(key)?;
            match key.0 {
                Raw::V4(key) => four.push(key),
                Raw::V6(key) => six.push(key),
            }
        }
        Ok(remove_all(&self.flows4, &four)? + remove_all(&self.flows6, &six)?)
    }

    /// What was seen of an entry's packets, if it is there.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn usage(&self, key: &Key) -> Result<Option<Usage>, MapFault> {
        let head = match key.0 {
            Raw::V4(key) => self.flows4.get(&key, 0).map(|entry| entry.head),
            Raw::V6(key) => self.flows6.get(&key, 0).map(|entry| entry.head),
        };
        Ok(if_there(head)?.as_ref().map(Usage::from))
    }

    /// Copies some entries, from [`Cursor::default`] or where the last slice ended. Entries that
    /// are there all through a walk are seen in it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn slice(&self, from: Cursor) -> Result<Slice, MapFault> {
        slice(&self.flows4, &self.flows6, from)
    }
}

/// Why an entry is not there.
#[derive(Debug, thiserror::Error)]
pub enum InsertError {
    /// There is one with the same key.
    #[error("the flow has an entry: remove it first")]
    Exists,
    /// It is to be translated to addresses of the other family.
    #[error("the flow and its translation are of different families")]
    Families,
    /// There is no room.
    #[error("the flow cache is full")]
    Full,
    /// The kernel refused for another reason.
    #[error(transparent)]
    Refused(MapFault),
}

impl InsertError {
    fn of(fault: MapFault) -> Self {
        match errno(&fault.0) {
            Some(libc::EEXIST) => Self::Exists,
            Some(libc::E2BIG) => Self::Full,
            _ => Self::Refused(fault),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Family {
    #[default]
    V4,
    V6,
}

pub(crate) fn if_there<T>(outcome: Result<T, MapError>) -> Result<Option<T>, MapFault> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(error) if errno(&error) == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(MapFault(error)),
    }
}

/// Whether an element is not inserted since there is one.
pub(crate) fn exists(error: &MapError) -> bool {
    errno(error) == Some(libc::EEXIST)
}

fn errno(error: &MapError) -> Option<i32> {
    match error {
        MapError::SyscallError(call) => call.io_error.raw_os_error(),
        _ => None,
    }
}

pub(crate) fn slice(
    flows4: &Entries<4>,
    flows6: &Entries<16>,
    from: Cursor,
) -> Result<Slice, MapFault> {
    match from.family {
        Family::V4 => {
            let (entries, next) = lookup(flows4, from.bucket)?;
            let next = Some(match next {
                Some(bucket) => Cursor { bucket: Some(bucket), ..from },
                None => Cursor { family: Family::V6, bucket: None },
            });
            Ok(Slice { entries: read(entries, Raw::V4), next })
        }
        Family::V6 => {
            let (entries, next) = lookup(flows6, from.bucket)?;
            let next = next.map(|bucket| Cursor { bucket: Some(bucket), ..from });
            Ok(Slice { entries: read(entries, Raw::V6), next })
        }
    }
}

fn insert_both<const N: usize>(
    map: &Entries<N>,
    keys: [RawKey<N>; 2],
    verdicts: [&Verdict; 2],
    generations: [Generation; 2],
) -> Result<(), InsertError>
where
    [u8; N]: Octets,
{
    let now = FlowCache::now();
    let whole = |side: usize| {
        let head = verdicts[side].head(generations[side], now);
        entry(keys[side], head, verdicts[side].translation()).ok_or(InsertError::Families)
    };
    let entries = [whole(0)?, whole(1)?];
    let refused = fault("bpf_map_update_batch");
    insert_batch(map, &keys, &entries).map_err(|error| InsertError::of(refused(error)))
}

/// A batch ends at an entry that is not there: the rest follows in another.
fn remove_all<const N: usize>(map: &Entries<N>, mut keys: &[RawKey<N>]) -> Result<usize, MapFault> {
    let mut removed = 0;
    while !keys.is_empty() {
        let done = remove_batch(map, keys).map_err(fault("bpf_map_delete_batch"))?;
        removed += done;
        keys = keys.get(done + 1..).unwrap_or_default();
    }
    Ok(removed)
}

fn lookup<const N: usize>(map: &Entries<N>, from: Option<u32>) -> Result<Batch<N>, MapFault> {
    lookup_batch(map, from, FlowCache::SLICE).map_err(fault("bpf_map_lookup_batch"))
}

fn read<const N: usize>(
    entries: Vec<(RawKey<N>, RawEntry<N>)>,
    family: fn(RawKey<N>) -> Raw,
) -> Vec<(Key, Usage)> {
    entries.into_iter().map(|(key, entry)| (Key(family(key)), Usage::from(&entry.head))).collect()
}

/// `BPF_ANY`.
const ANY: u64 = 0;
/// `BPF_NOEXIST`.
pub(crate) const NO_EXIST: u64 = 1;

#[cfg(test)]
mod tests {
    use aya::programs::{TestRun, TestRunOptions};

    use super::*;
    use crate::cache::{ON_PORTS, program};
    use crate::layout::{RawPunt, TO_PEER};
    use crate::{Capacity, Counter, Egress, Hop, PortId, Protocol, Settings};

    /// The map may give an element to another flow while the program reads it. Here are elements
    /// as it could then find them.
    #[test]
    fn what_is_not_one_whole_entry_of_the_packets_flow_is_not_taken() {
        let settings = Settings { capacity: Capacity(16), ..Settings::default() };
        let mut cache = match FlowCache::load(settings) {
            Err(error) if std::env::var_os("CI").is_none() => {
                eprintln!("not run: {error}");
                return;
            }
            outcome => outcome.unwrap(),
        };
        // a test run comes by the loopback
        cache.ports.insert(1, 7, 0).unwrap();
        cache.punt.set(0, RawPunt { ifindex: 1, queues: 1, until: u64::MAX }, 0).unwrap();
        let key = |port: u16| {
            let [from, to] = [("10.0.0.1", port), ("10.0.0.2", 9)]
                .map(|(ip, port)| (ip.parse::<std::net::IpAddr>().unwrap(), port).into());
            Key::new(PortId::new(7).unwrap(), Protocol::Udp, from, to).unwrap()
        };
        let (Raw::V4(own), Raw::V4(other)) = (key(8).0, key(80).0) else {
            panic!("the addresses are IPv4's");
        };
        let forward = Forward {
            egress: Egress::Link(1),
            destination_mac: [2; 6],
            source_mac: [4; 6],
            mtu: 1500,
            hop: Hop::Bridged,
            translation: None,
        };
        let head = Verdict::Forward(forward).head(Generation(5), FlowCache::now());
        assert_eq!(head.flags & TO_PEER, 0);
        let whole = entry(own, head, None).unwrap();
        let mut fate = |value| {
            cache.flows4.insert(own, value, 0).unwrap();
            let before = [Counter::Hit, Counter::MissChanged].map(|it| cache.count(it).unwrap());
            let options = TestRunOptions { data_in: Some(&PACKET), ..TestRunOptions::default() };
            program(&mut cache.ebpf, ON_PORTS).test_run(options).unwrap();
            let now = [Counter::Hit, Counter::MissChanged].map(|it| cache.count(it).unwrap());
            [now[0] - before[0], now[1] - before[1]]
        };
        assert_eq!(fate(whole), [1, 0]);
        assert_eq!(fate(RawEntry { own: other, ..whole }), [0, 1], "another flow's");
        assert_eq!(fate(RawEntry { sealed: 4, ..whole }), [0, 1], "the end is older");
        assert_eq!(fate(RawEntry { sealed: 6, ..whole }), [0, 1], "the beginning is older");
        assert_eq!(fate(whole), [1, 0]);
    }

    /// UDP over IPv4, from 10.0.0.1:8 to 10.0.0.2:9.
    const PACKET: [u8; 42] = [
        2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0,
        0, 1, 10, 0, 0, 2, 0, 8, 0, 9, 0, 8, 0, 0,
    ];
}
