//! A checked, compiled module, from which instances are made.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_abi::{CapabilitySet, limits};
use sha2::{Digest, Sha256};
use wasmtime::InstancePre;

use crate::clock::Clock;
use crate::engine::Sandbox;
use crate::fault::Fault;
use crate::imports::Host;
use crate::instance::Instance;
use crate::log::FilterLog;
use crate::manifest::Manifest;
use crate::maps::MapRegistry;
use crate::validate::{self, Refusal};

/// SHA-256 of a module's bytes; prints as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleDigest([u8; 32]);

/// A module that is fit to run.
pub struct Module {
    digest: ModuleDigest,
    manifest: Manifest,
    size: usize,
    origin: Origin,
    prepared: InstancePre<Host>,
    maps: Arc<MapRegistry>,
    clock: Arc<Clock>,
}

/// Where a module's compiled code came from, and how long that took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was compiled now.
    Compiled(Duration),
    /// It was found in the cache.
    Cached(Duration),
}

/// What one instance of a filter gets.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The stage it runs as: the owner of its host maps.
    pub stage: Arc<str>,
    /// What it may do; more than its manifest wants makes no difference.
    pub capabilities: CapabilitySet,
    /// Bytes of linear memory, at most.
    pub memory: usize,
    /// How long one call of a hook may take.
    pub deadline: Duration,
    /// Where it writes its log.
    pub log: Arc<FilterLog>,
}

impl Grant {
    /// How long a call of a hook may take unless the operator says otherwise.
    pub const DEADLINE: Duration = Duration::from_millis(10);

    /// The usual grant for the stage called `stage`: all that the manifest wants.
    pub fn new(stage: &str) -> Self {
        let stage: Arc<str> = stage.into();
        Self {
            log: Arc::new(FilterLog::new(Arc::clone(&stage))),
            stage,
            capabilities: CapabilitySet::ALL,
            memory: limits::DEFAULT_MEMORY,
            deadline: Self::DEADLINE,
        }
    }
}

/// Why a module cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The compiler does not take it.
    #[error("it does not compile: {0:#}")]
    Compile(wasmtime::Error),
}

/// Why an instance cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// It failed while it started.
    #[error("it failed while starting: {0}")]
    Start(Fault),
    /// Its allocator gave the host memory that is not there or already in use.
    #[error("its `millrace_alloc` returned {at:#x} for {len} bytes, which {problem}")]
    Alloc {
        /// What it returned.
        at: u32,
        /// What it was asked for.
        len: u32,
        /// What is wrong with that.
        problem: &'static str,
    },
    /// The configuration is longer than it may be.
    #[error("its configuration is {0} bytes long; the limit is {limit}", limit = limits::MAX_CONFIG)]
    ConfigTooLong(usize),
    /// It does not take its configuration.
    #[error("it refuses its configuration: {0}")]
    Configure(Fault),
    /// An update of tables is longer than it may be.
    #[error("an update of tables is {0} bytes long; the limit is {limit}", limit = limits::MAX_UPDATE)]
    UpdateTooLong(usize),
    /// It does not take an update of tables.
    #[error("it refuses an update of tables: {0}")]
    Update(Fault),
}

impl Sandbox {
    /// Checks a module and compiles it, or takes its compiled code from the cache. `memory` is
    /// what its instances will get at most, in bytes.
    ///
    /// # Errors
    /// What is wrong with it, and how to mend it.
    pub fn load(&self, bytes: &[u8], memory: usize) -> Result<Arc<Module>, LoadError> {
        let manifest = validate::check(bytes, memory)?;
        let digest = ModuleDigest::of(bytes);
        let start = Instant::now();
        let cached = self.cache.as_ref().and_then(|cache| cache.load(&self.engine, &digest));
        let (module, origin) = match cached {
            Some(module) => (module, Origin::Cached(start.elapsed())),
            None => {
                let module =
                    wasmtime::Module::new(&self.engine, bytes).map_err(LoadError::Compile)?;
                if let Some(cache) = &self.cache {
                    cache.store(&self.engine, &digest, &module);
                }
                (module, Origin::Compiled(start.elapsed()))
            }
        };
        let prepared = self.linker.instantiate_pre(&module).map_err(LoadError::Compile)?;
        let (maps, clock) = (Arc::clone(self.maps()), Arc::clone(self.clock()));
        Ok(Arc::new(Module { digest, manifest, size: bytes.len(), origin, prepared, maps, clock }))
    }
}

impl Module {
    /// SHA-256 of the module's bytes.
    pub fn digest(&self) -> ModuleDigest {
        self.digest
    }

    /// What the module says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of the module.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Where its compiled code came from.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Makes an instance and configures it with `config` (JSON).
    ///
    /// # Errors
    /// If it cannot start within its limits or does not take its configuration.
    pub fn instantiate(&self, grant: &Grant, config: &str) -> Result<Instance, InstanceError> {
        Instance::start(&self.prepared, &self.manifest, grant, &self.maps, &self.clock, config)
            .inspect_err(|_| self.maps.forget_unused())
    }
}

impl ModuleDigest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ModuleDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module")
            .field("name", &self.manifest.name)
            .field("digest", &self.digest)
            .finish()
    }
}
