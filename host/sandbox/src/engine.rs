//! The engine, and what all filters on a node share: the clock that ends
//! overlong calls, the host maps, the cache of compiled code.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use wasmtime::{Config, Engine, Linker, OptLevel, Strategy, WasmBacktraceDetails};

use crate::cache::CodeCache;
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
    _ticker: Ticker,
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
        Ok(Self { engine, linker, cache, maps: Arc::default(), _ticker: ticker })
    }

    /// The host maps of the node.
    pub fn maps(&self) -> &Arc<MapRegistry> {
        &self.maps
    }
}

/// How many ticks make at least `time`: the first one may come at once.
pub(crate) const fn ticks(time: Duration) -> u64 {
    time.as_nanos().div_ceil(TICK.as_nanos()) as u64 + 1
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

/// Advances the engine's epoch, and stops when dropped.
struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let tick = move || {
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        };
        let thread = thread::Builder::new().name("millrace-epoch".to_owned()).spawn(tick)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The grain of deadlines. 200 wake-ups a second cost about 0.1 % of a core.
const TICK: Duration = Duration::from_millis(5);

/// Bytes of native stack that a guest's calls may use.
const GUEST_STACK: usize = 256 << 10;
