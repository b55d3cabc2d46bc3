//! The host of native runs. Each rig has one; it is its thread's current one
//! while the rig's filter runs.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::abi::names::{map_flag, map_status};
use crate::abi::{MapShape, limits};
use crate::filter::{self, Filter};
use crate::record::Record;
use crate::{Decision, Error, MapOptions, Served, Slot};

/// What a host offers; `ABI.md` says what each import does. A filter may be made on one thread and
/// run on another, and its host goes with it.
pub trait Host: Send + Sync {
    /// Nanoseconds of the clock of slots.
    fn now_ns(&self) -> u64;
    /// Takes a line of the filter's log.
    fn log(&self, level: u32, text: &str);
    /// Takes a metric.
    ///
    /// # Errors
    /// If the name is taken or no name for a metric.
    fn metric(&self, kind: u32, name: &str, value: Arc<[AtomicU64]>) -> Result<(), Error>;
    /// Opens a map; returns its handle.
    ///
    /// # Errors
    /// If it cannot be opened so.
    fn map_open(&self, name: &str, shape: &MapShape) -> Result<i32, Error>;
    /// Reads an entry.
    fn map_get(&self, map: i32, key: &[u8], value: &mut [u8]) -> i32;
    /// Writes an entry.
    fn map_set(&self, map: i32, key: &[u8], value: &[u8]) -> i32;
    /// Removes an entry.
    fn map_remove(&self, map: i32, key: &[u8]) -> i32;
    /// Adds to an entry.
    fn map_add(&self, map: i32, key: &[u8], delta: i64, sum: &mut u64) -> i32;
    /// Replaces an entry if it is what is expected.
    fn map_exchange(&self, map: i32, key: &[u8], expected: Option<&[u8]>, value: &[u8]) -> i32;
    /// Reads as many entries as `found` has places.
    fn map_get_all(&self, map: i32, keys: &[u8], values: &mut [u8], found: &mut [u8]) -> i32 {
        if found.is_empty() {
            return map_status::OK;
        }
        let (key_len, value_len) = (keys.len() / found.len(), values.len() / found.len());
        let entries = keys.chunks_exact(key_len).zip(values.chunks_exact_mut(value_len));
        for ((key, value), found) in entries.zip(found) {
            match self.map_get(map, key, value) {
                map_status::REFUSED => return map_status::REFUSED,
                status => *found = (status == map_status::OK).into(),
            }
        }
        map_status::OK
    }
    /// Replaces as many entries as `done` has places, each if it is what is expected.
    fn map_exchange_all(
        &self,
        map: i32,
        keys: &[u8],
        found: &[u8],
        expected: &[u8],
        values: &[u8],
        done: &mut [i8],
    ) -> i32 {
        if done.is_empty() {
            return map_status::OK;
        }
        let (key_len, value_len) = (keys.len() / done.len(), values.len() / done.len());
        let expected = expected.chunks_exact(value_len).zip(found);
        let entries = keys.chunks_exact(key_len).zip(values.chunks_exact(value_len)).zip(expected);
        for (((key, value), (expected, found)), done) in entries.zip(done) {
            let expected = (*found != 0).then_some(expected);
            match self.map_exchange(map, key, expected, value) {
                map_status::REFUSED => return map_status::REFUSED,
                status => *done = status as i8,
            }
        }
        map_status::OK
    }
    /// Takes a frame to send.
    fn emit(&self, port: u16, frame: &[u8]) -> bool;
}

/// Makes a filter from its configuration as JSON, with `host` as its host.
///
/// # Errors
/// If it refuses the configuration.
pub fn configure<F: Filter>(host: &Arc<dyn Host>, config: &str) -> Result<F, Error> {
    with(host, || filter::configure(config.as_bytes()))
}

/// Asks a filter about a batch, as its export does, with `host` as its host.
#[inline]
pub fn flow<F: Filter>(
    host: &Arc<dyn Host>,
    filter: &mut F,
    slots: &[Slot],
    decisions: &mut [Decision],
) {
    with(host, || filter.flows(slots, decisions));
}

/// Runs `call` with `host` as the current host of this thread.
pub fn with<T>(host: &Arc<dyn Host>, call: impl FnOnce() -> T) -> T {
    /// Puts the host back that was current before, even when `call` panics.
    struct Restore(Option<Arc<dyn Host>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CURRENT.with_borrow_mut(|current| *current = self.0.take());
        }
    }
    let before = CURRENT.with_borrow_mut(|current| current.replace(Arc::clone(host)));
    let _restore = Restore(before);
    call()
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<dyn Host>>> = const { RefCell::new(None) };
}

/// The current host's functions, under the names of the imports.
pub(crate) mod current {
    use super::{Arc, AtomicU64, CURRENT, Error, Host, MapShape};

    fn host<T>(call: impl FnOnce(&dyn Host) -> T) -> T {
        CURRENT.with_borrow(|host| match host {
            Some(host) => call(&**host),
            None => panic!("a filter runs natively inside `testing::host::with`, or in a `Rig`"),
        })
    }

    pub(crate) fn log(level: u32, text: &str) {
        host(|host| host.log(level, text));
    }

    pub(crate) fn now_ns() -> u64 {
        host(|host| host.now_ns())
    }

    pub(crate) fn metric(kind: u32, name: &str, value: Arc<[AtomicU64]>) -> Result<(), Error> {
        host(|host| host.metric(kind, name, value))
    }

    pub(crate) fn map_open(name: &str, shape: &MapShape) -> Result<i32, Error> {
        host(|host| host.map_open(name, shape))
    }

    pub(crate) fn map_get(map: i32, key: &[u8], value: &mut [u8]) -> i32 {
        host(|host| host.map_get(map, key, value))
    }

    pub(crate) fn map_set(map: i32, key: &[u8], value: &[u8]) -> i32 {
        host(|host| host.map_set(map, key, value))
    }

    pub(crate) fn map_remove(map: i32, key: &[u8]) -> i32 {
        host(|host| host.map_remove(map, key))
    }

    pub(crate) fn map_add(map: i32, key: &[u8], delta: i64, sum: &mut u64) -> i32 {
        host(|host| host.map_add(map, key, delta, sum))
    }

    pub(crate) fn map_exchange(map: i32, key: &[u8], expected: Option<&[u8]>, value: &[u8]) -> i32 {
        host(|host| host.map_exchange(map, key, expected, value))
    }

    pub(crate) fn map_get_all(map: i32, keys: &[u8], values: &mut [u8], found: &mut [u8]) -> i32 {
        host(|host| host.map_get_all(map, keys, values, found))
    }

    pub(crate) fn map_exchange_all(
        map: i32,
        keys: &[u8],
        found: &[u8],
        expected: &[u8],
        values: &[u8],
        done: &mut [i8],
    ) -> i32 {
        host(|host| host.map_exchange_all(map, keys, found, expected, values, done))
    }

    pub(crate) fn emit(port: u16, frame: &[u8]) -> bool {
        host(|host| host.emit(port, frame))
    }
}

/// A plain host: everything in collections that a test can look at, and a clock
/// that moves when it is told to.
#[derive(Default)]
pub(crate) struct StandIn {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    now_ns: u64,
    /// Writes are ignored, as for slots that are not new.
    dry: bool,
    metrics: HashMap<String, Arc<[AtomicU64]>>,
    lines: Vec<String>,
    maps: Vec<PlainMap>,
    /// Which map each handle of the present configuration is.
    handles: Vec<usize>,
    emitted: Vec<(u16, Vec<u8>)>,
}

struct PlainMap {
    name: String,
    shape: MapShape,
    /// Value, and when it dies.
    entries: HashMap<Vec<u8>, (Vec<u8>, u64)>,
}

impl StandIn {
    pub(crate) fn now_ns(&self) -> u64 {
        self.state().now_ns
    }

    pub(crate) fn advance(&self, nanoseconds: u64) {
        self.state().now_ns += nanoseconds;
    }

    pub(crate) fn set_dry(&self, dry: bool) {
        self.state().dry = dry;
    }

    /// A new configuration declares anew; maps stay.
    pub(crate) fn begin_setup(&self) {
        let mut state = self.state();
        state.metrics.clear();
        state.handles.clear();
    }

    pub(crate) fn metric_value(&self, name: &str) -> Option<u64> {
        self.state().metrics.get(name).map(|value| value[0].load(Relaxed))
    }

    /// Has an endpoint have so many connections.
    pub(crate) fn set_connections(&self, served: &Served, count: u64) {
        let options = MapOptions::connections();
        let shape = options.shape::<Served, u64>();
        let mut key = Served::ZEROS;
        Record::write(served, &mut key);
        let mut state = self.state();
        let index = state.place(OWN, &shape);
        let entries = &mut state.maps[index].entries;
        match count {
            0 => drop(entries.remove(&key[..])),
            _ => drop(entries.insert(key.to_vec(), (count.to_le_bytes().to_vec(), u64::MAX))),
        }
    }

    pub(crate) fn take_lines(&self) -> Vec<String> {
        std::mem::take(&mut self.state().lines)
    }

    pub(crate) fn take_emitted(&self) -> Vec<(u16, Vec<u8>)> {
        std::mem::take(&mut self.state().emitted)
    }

    /// The value of every metric, to be put back after a dry call.
    pub(crate) fn save_metrics(&self) -> Vec<(Arc<[AtomicU64]>, Vec<u64>)> {
        let state = self.state();
        let load = |value: &Arc<[AtomicU64]>| value.iter().map(|n| n.load(Relaxed)).collect();
        state.metrics.values().map(|value| (Arc::clone(value), load(value))).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // a panic inside is a failed test, which may still look at what there is
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn map(&mut self, handle: i32) -> Option<&mut PlainMap> {
        let index = *self.handles.get(usize::try_from(handle).ok()?)?;
        self.maps.get_mut(index)
    }

    /// A map that the filter may write.
    fn writable(&mut self, handle: i32) -> Option<&mut PlainMap> {
        self.map(handle).filter(|map| map.shape.flags & map_flag::CONNECTIONS == 0)
    }

    /// The number of the map with this name, which is made if there is none.
    fn place(&mut self, name: &str, shape: &MapShape) -> usize {
        self.maps.iter().position(|map| map.name == name).unwrap_or_else(|| {
            let (name, entries) = (name.to_owned(), HashMap::new());
            self.maps.push(PlainMap { name, shape: *shape, entries });
            self.maps.len() - 1
        })
    }
}

impl PlainMap {
    fn get(&mut self, key: &[u8], now_ns: u64) -> Option<Vec<u8>> {
        let expiry = self.expiry(now_ns);
        let touch = self.shape.flags & map_flag::TOUCH != 0;
        let (value, expires) = self.entries.get_mut(key).filter(|entry| entry.1 > now_ns)?;
        if touch {
            *expires = expiry;
        }
        Some(value.clone())
    }

    fn set(&mut self, key: &[u8], value: &[u8], now_ns: u64) -> i32 {
        self.entries.retain(|_, entry| entry.1 > now_ns);
        let others = || self.entries.iter().filter(|(other, _)| *other != key);
        let group = |value: &[u8]| value.get(..2).map(<[u8]>::to_vec);
        let alike = others().filter(|(_, entry)| group(&entry.0) == group(value)).count();
        let quota = self.shape.quota as usize;
        if others().count() >= self.shape.capacity as usize || (quota > 0 && alike >= quota) {
            return map_status::FULL;
        }
        let expiry = self.expiry(now_ns);
        self.entries.insert(key.to_vec(), (value.to_vec(), expiry));
        map_status::OK
    }

    fn expiry(&self, now_ns: u64) -> u64 {
        match self.shape.ttl_ms {
            0 => u64::MAX,
            ttl => now_ns + u64::from(ttl) * 1_000_000,
        }
    }
}

impl Host for StandIn {
    fn now_ns(&self) -> u64 {
        self.state().now_ns
    }

    fn log(&self, _level: u32, text: &str) {
        let mut state = self.state();
        if !state.dry {
            state.lines.push(text.to_owned());
        }
    }

    fn metric(&self, _kind: u32, name: &str, value: Arc<[AtomicU64]>) -> Result<(), Error> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
        let fits = (1..=limits::MAX_NAME).contains(&name.len()) && name.bytes().all(plain);
        let mut state = self.state();
        if !fits || state.metrics.len() == limits::MAX_METRICS || state.metrics.contains_key(name) {
            return Err(Error::new(format!("the host refuses the metric `{name}`")));
        }
        state.metrics.insert(name.to_owned(), value);
        Ok(())
    }

    fn map_open(&self, name: &str, shape: &MapShape) -> Result<i32, Error> {
        let mut state = self.state();
        // the host's own map is the same by every name
        let is_own = shape.flags & map_flag::CONNECTIONS != 0;
        let index = state.place(if is_own { OWN } else { name }, shape);
        if state.maps[index].shape != *shape {
            return Err(Error::new(format!("host map `{name}` has another shape")));
        }
        state.handles.push(index);
        Ok(state.handles.len() as i32 - 1)
    }

    fn map_get(&self, map: i32, key: &[u8], value: &mut [u8]) -> i32 {
        let mut state = self.state();
        let now_ns = state.now_ns;
        let Some(map) = state.map(map) else { return map_status::REFUSED };
        match map.get(key, now_ns) {
            Some(found) => {
                value.copy_from_slice(&found);
                map_status::OK
            }
            None => map_status::ABSENT,
        }
    }

    fn map_set(&self, map: i32, key: &[u8], value: &[u8]) -> i32 {
        let mut state = self.state();
        let (now_ns, dry) = (state.now_ns, state.dry);
        match state.writable(map) {
            None => map_status::REFUSED,
            Some(_) if dry => map_status::OK,
            Some(map) => map.set(key, value, now_ns),
        }
    }

    fn map_remove(&self, map: i32, key: &[u8]) -> i32 {
        let mut state = self.state();
        let (now_ns, dry) = (state.now_ns, state.dry);
        match state.writable(map) {
            None => map_status::REFUSED,
            Some(_) if dry => map_status::OK,
            Some(map) => match map.entries.remove(key) {
                Some((_, expires)) if expires > now_ns => map_status::OK,
                _ => map_status::ABSENT,
            },
        }
    }

    fn map_add(&self, map: i32, key: &[u8], delta: i64, sum: &mut u64) -> i32 {
        let mut state = self.state();
        let (now_ns, dry) = (state.now_ns, state.dry);
        let Some(map) = state.writable(map) else { return map_status::REFUSED };
        let mut value =
            map.get(key, now_ns).unwrap_or_else(|| vec![0; map.shape.value_len as usize]);
        let Some(head) = value.first_chunk_mut::<8>() else { return map_status::ABSENT };
        *sum = u64::from_le_bytes(*head).wrapping_add_signed(delta);
        *head = sum.to_le_bytes();
        if dry { map_status::OK } else { map.set(key, &value, now_ns) }
    }

    fn map_exchange(&self, map: i32, key: &[u8], expected: Option<&[u8]>, value: &[u8]) -> i32 {
        let mut state = self.state();
        let (now_ns, dry) = (state.now_ns, state.dry);
        match state.writable(map) {
            None => map_status::REFUSED,
            Some(_) if dry => map_status::OK,
            Some(map) => match map.get(key, now_ns).as_deref() == expected {
                true => map.set(key, value, now_ns),
                false => map_status::ABSENT,
            },
        }
    }

    fn emit(&self, port: u16, frame: &[u8]) -> bool {
        let mut state = self.state();
        let allowed = (1..=limits::MAX_PORT).contains(&port)
            && (14..=limits::MAX_FRAME).contains(&frame.len());
        if allowed && !state.dry {
            state.emitted.push((port, frame.to_vec()));
        }
        allowed
    }
}

/// Stands for the name of the map that the host writes itself: no filter's map is called so.
const OWN: &str = "";
