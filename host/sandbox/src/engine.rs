//! The engine, and what all filters on a node share: the clock that ends
//! overlong calls, the host maps, the cache of compiled code.

use std::path::PathBuf;
use std::sync::Arc;

use wasmtime::{Config, Engine, Linker, OptLevel, Strategy, WasmBacktraceDetails};

use crate::cache::CodeCache;
use crate::clock::{Clock, Ticker};
use crate::imports::{self, Host};
use crate::maps::MapRegistry;

/// Settings of a [`Sandbox`].
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Where compiled code is kept; `None` compiles every time.
    pub cache: Option<PathBuf>,
}

/// Everything that the filters of a node share.
pub struct Sandbox {
    pub(crate) engine: Engine,
    pub(crate) linker: Linker<Host>,
    pub(crate) cache: Option<CodeCache>,
    maps: Arc<MapRegistry>,
    ticker: Ticker,
}

impl Sandbox {
    /// Starts the engine and its clock.
    ///
    /// # Errors
    /// If the machine cannot run the engine, or a thread cannot be started. An unusable cache
    /// folder is reported in the log, and the sandbox goes on without it.
    pub fn new(settings: &Settings) -> Result<Self, wasmtime::Error> {
        let engine = Engine::new(&config())?;
        let mut linker = Linker::new(&engine);
        imports::define(&mut linker)?;
        let cache = settings.cache.as_deref().and_then(|folder| {
            CodeCache::open(folder)
                .inspect_err(|error| tracing::warn!(%error, "compiled modules will not be kept"))
                .ok()
        });
        let ticker = Ticker::start(engine.clone())?;
        Ok(Self { engine, linker, cache, maps: Arc::default(), ticker })
    }

    /// What calls need to be ended in time.
    pub(crate) fn clock(&self) -> &Arc<Clock> {
        self.ticker.clock()
    }

    /// The host maps of the node.
    pub fn maps(&self) -> &Arc<MapRegistry> {
        &self.maps
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .native_unwind_info(false)
        // the host keeps addresses inside a guest's memory: it must stay where it is
        .memory_may_move(false)
        .wasm_relaxed_simd(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .max_wasm_stack(GUEST_STACK);
    config
}

/// Bytes of native stack that a guest's calls may use.
const GUEST_STACK: usize = 256 << 10;
