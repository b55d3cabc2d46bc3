//! Chains to be measured: the same filters with the same configurations, as WebAssembly modules
//! in the sandbox, or compiled natively into this program.

use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use millrace_abi::{ClassSet, limits};
use millrace_bridge::Bridge;
use millrace_dataplane::Rights;
use millrace_dataplane::guest::Guest;
use millrace_dataplane::stage::{
    Abilities, Crew, Mode, OnFault, Selector, Stage, StageSpec, Version,
};
use millrace_dataplane::verdict::Decider;
use millrace_deny_list::DenyList;
use millrace_dns_log::DnsLog;
use millrace_filter::Filter;
use millrace_rate_limit::RateLimit;
use millrace_sandbox::maps::MapRegistry;
use millrace_sandbox::{Grant, Hook, Sandbox};

use crate::native::NativeGuest;

/// How a filter is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// To WebAssembly, and run in the sandbox.
    Wasm,
    /// Into this program.
    Native,
}

impl Kind {
    /// Both, in the order in which they take turns.
    pub const BOTH: [Self; 2] = [Self::Native, Self::Wasm];

    /// The word used in results.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Wasm => "wasm",
            Self::Native => "native",
        }
    }
}

/// A filter, and the configuration it is measured with.
pub struct Recipe {
    /// The stage it is.
    pub stage: &'static str,
    filter: &'static str,
    config: &'static str,
    native: MakeNative,
}

/// Makes a native filter from the host maps there are, its stage and its configuration.
type MakeNative = fn(&Arc<MapRegistry>, &Arc<str>, &str) -> Result<Box<dyn Guest>>;

/// The chain of five; shorter ones are its beginning. The bridge comes first, for without it there
/// is no way out.
pub const CHAIN: [Recipe; 5] = [
    Recipe { stage: "bridge", filter: "bridge", config: "{}", native: native::<Bridge> },
    Recipe {
        stage: "deny-list",
        filter: "deny-list",
        config: r#"{"rules": [
            {"from": "192.0.2.0/24"},
            {"to": "198.51.100.0/24"},
            {"from": "172.16.0.0/12", "to": "203.0.113.0/24"},
            {"protocol": "tcp", "port": 22},
            {"from": "10.0.0.0/8", "protocol": "tcp", "port": 23},
            {"from": "2001:db8::/32"},
            {"to": "10.255.0.0/16", "protocol": "udp"},
            {"port": 31337}
        ]}"#,
        native: native::<DenyList>,
    },
    Recipe {
        stage: "rate-limit",
        filter: "rate-limit",
        // never used up: what is measured is the asking
        config: r#"{"flows_per_second": 1000000000, "burst": 4000000000}"#,
        native: native::<RateLimit>,
    },
    Recipe { stage: "dns-log", filter: "dns-log", config: "{}", native: native::<DnsLog> },
    Recipe {
        stage: "deny-ports",
        filter: "deny-list",
        config: r#"{"rules": [{"port": 111}, {"port": 135}, {"port": 2049}], "action": "reject"}"#,
        native: native::<DenyList>,
    },
];

/// What guests are made with: an engine, and the host maps of either kind.
pub struct Kitchen {
    sandbox: Sandbox,
    native_maps: Arc<MapRegistry>,
}

/// A stage, ready to be asked.
pub struct Dish {
    /// Its name.
    pub stage: Arc<str>,
    /// The filter.
    pub guest: Box<dyn Guest>,
    /// What its manifest says it can, and may.
    pub abilities: Abilities,
}

impl Kitchen {
    /// An engine and maps of their own.
    ///
    /// # Errors
    /// If the engine does not start.
    pub fn new(settings: &millrace_sandbox::Settings) -> Result<Self> {
        let sandbox = Sandbox::new(settings)
            .map_err(|error| anyhow!("the WebAssembly engine does not start: {error:#}"))?;
        Ok(Self { sandbox, native_maps: Arc::default() })
    }

    /// The first `length` filters of [`CHAIN`].
    ///
    /// # Errors
    /// If one does not start.
    pub fn chain(&self, kind: Kind, length: usize) -> Result<Vec<Dish>> {
        CHAIN[..length].iter().map(|recipe| self.make(kind, recipe)).collect()
    }

    /// One filter.
    ///
    /// # Errors
    /// If it does not start.
    pub fn make(&self, kind: Kind, recipe: &Recipe) -> Result<Dish> {
        let module = millrace_builtin::find(recipe.filter)
            .with_context(|| format!("no filter `{}` is built in", recipe.filter))?;
        let module = self.sandbox.load(module.bytes, limits::DEFAULT_MEMORY)?;
        let manifest = module.manifest();
        let abilities = Abilities {
            decides: manifest.has(Hook::Flow),
            // native filters have the flow hook alone
            classes: if kind == Kind::Native { ClassSet::EMPTY } else { manifest.classes() },
            rights: Rights {
                capabilities: manifest.capabilities(),
                sees_packets: manifest.has(Hook::Packet),
            },
        };
        let stage: Arc<str> = recipe.stage.into();
        let guest: Box<dyn Guest> = match kind {
            Kind::Wasm => Box::new(module.instantiate(&Grant::new(&stage), recipe.config)?),
            Kind::Native => (recipe.native)(&self.native_maps, &stage, recipe.config)?,
        };
        Ok(Dish { stage, guest, abilities })
    }

    /// The engine, to load other modules with.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }
}

/// The stages of a worker's chain, in this order, as the dataplane makes them by default.
pub fn stages(chain: Vec<Dish>) -> Vec<Stage> {
    chain.into_iter().zip(1..).map(stage).collect()
}

fn stage((dish, number): (Dish, u8)) -> Stage {
    let spec = StageSpec {
        number: Decider::stage(number),
        name: dish.stage,
        selector: Selector::All,
        on_fault: OnFault::Closed,
        mode: Mode::Enforce,
    };
    let main = Version {
        number: 1,
        abilities: dish.abilities,
        guest: Some(dish.guest),
        twin: Arc::default(),
    };
    let crew = Crew { main, canary: None };
    Stage { spec: Arc::new(spec), crew, counters: Arc::default() }
}

fn native<F: Filter + Send>(
    maps: &Arc<MapRegistry>,
    stage: &Arc<str>,
    config: &str,
) -> Result<Box<dyn Guest>> {
    let guest = NativeGuest::<F>::new(maps, stage, config)
        .map_err(|error| anyhow!("`{stage}` refuses its configuration: {error}"))?;
    Ok(Box::new(guest))
}
