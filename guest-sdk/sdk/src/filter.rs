//! What a filter is.

use std::fmt;

use crate::config::Config;
use crate::manifest::Manifest;
use crate::map::{Map, MapOptions};
use crate::metrics::{Counter, Gauge, Histogram};
use crate::packet::Packet;
use crate::record::Record;
use crate::tables::Update;
use crate::{Decision, Slot};

/// A filter: how it is made from its configuration, and its hooks.
///
/// [`filter!`](crate::filter!) names the hooks that the host shall call.
///
/// A filter's own memory holds only what follows from its configuration: the host may replace an
/// instance between two packets, and runs one on each worker. What must outlive an instance goes
/// into a [`Map`].
pub trait Filter: Sized + 'static {
    /// What the filter says of itself.
    const MANIFEST: Manifest;
    /// What the operator configures; `()` for nothing.
    type Config: Config;

    /// Makes the filter. Called again with every new configuration; the old filter is dropped when
    /// the new one is made.
    ///
    /// # Errors
    /// Refuses the configuration, with the reason for the operator to read.
    fn new(config: Self::Config, setup: &mut Setup) -> Result<Self, Error>;

    /// Decides about a flow. `decision` is empty: leave it so to have nothing to say.
    ///
    /// The host remembers the decision, so it may depend on the slot, the configuration and maps,
    /// and on nothing else.
    fn flow(&mut self, slot: &Slot, decision: &mut Decision) {
        let _ = (slot, decision);
    }

    /// Decides about the flows that the host asks about at once, at most
    /// [`MAX_BATCH`](crate::abi::limits::MAX_BATCH) of them: [`flow`](Filter::flow) about each,
    /// unless there is something to gain from knowing them all, as with [`Entries`](crate::Entries)
    /// of a map. Decisions about one flow must not depend on which others are in the batch.
    fn flows(&mut self, slots: &[Slot], decisions: &mut [Decision]) {
        for (slot, decision) in slots.iter().zip(decisions) {
            self.flow(slot, decision);
        }
    }

    /// Looks at a packet of a flow it asked for ([`Decision::inspect`]) or of a class it declared
    /// ([`Manifest::sees`]).
    fn packet(&mut self, slot: &Slot, packet: &mut Packet<'_>) {
        let _ = (slot, packet);
    }

    /// Is told what has changed of the tables it subscribes to
    /// ([`Manifest::subscribes`]): once all there is, before anything else is asked of it, and
    /// later what is new. The changes that hold together end with a commit.
    ///
    /// # Errors
    /// Refuses them, with the reason for the operator to read. The filter is dropped then, and the
    /// tables before stay in force in others.
    fn update(&mut self, update: Update<'_>) -> Result<(), Error> {
        let _ = update;
        Ok(())
    }

    /// Is called about once a second.
    fn tick(&mut self, now_ns: u64) {
        let _ = now_ns;
    }
}

/// What a filter may ask for while it is made.
#[derive(Debug)]
pub struct Setup {
    _private: (),
}

/// Why a configuration is refused, or an update of tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Setup {
    pub(crate) fn new() -> Self {
        Self { _private: () }
    }

    /// A number that only grows.
    ///
    /// # Errors
    /// If the name is taken or is not made of letters, digits, `-` and `_`; so for each metric.
    pub fn counter(&mut self, name: &str) -> Result<Counter, Error> {
        Counter::declare(name)
    }

    /// A number that goes up and down.
    ///
    /// # Errors
    /// As [`Setup::counter`].
    pub fn gauge(&mut self, name: &str) -> Result<Gauge, Error> {
        Gauge::declare(name)
    }

    /// A distribution of values.
    ///
    /// # Errors
    /// As [`Setup::counter`].
    pub fn histogram(&mut self, name: &str) -> Result<Histogram, Error> {
        Histogram::declare(name)
    }

    /// Opens a map, kept by the host under `name`: the same for every instance of the filter, now
    /// and after it is swapped.
    ///
    /// # Errors
    /// If a map of that name has another shape, or the filter may not share maps.
    pub fn map<K: Record, V: Record>(
        &mut self,
        name: &str,
        options: MapOptions,
    ) -> Result<Map<K, V>, Error> {
        Map::open(name, options)
    }
}

impl Error {
    /// An error that says `reason`.
    pub fn new(reason: impl Into<String>) -> Self {
        Self(reason.into())
    }
}

#[cfg(target_family = "wasm")]
impl Error {
    /// An error of which the host knows more than the filter.
    pub(crate) fn silent() -> Self {
        Self(String::new())
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&str> for Error {
    fn from(reason: &str) -> Self {
        Self(reason.to_owned())
    }
}

impl From<String> for Error {
    fn from(reason: String) -> Self {
        Self(reason)
    }
}

impl From<crate::tables::Malformed> for Error {
    fn from(reason: crate::tables::Malformed) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

/// Makes a filter from its configuration as text.
pub(crate) fn configure<F: Filter>(json: &[u8]) -> Result<F, Error> {
    let config = crate::config::parse::<F::Config>(json)?;
    F::new(config, &mut Setup::new())
}
