//! A node's policy filter, told of one world after the other, and asked about connections.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use millrace_abi::{Class, Control, Origin, PortKind, Slot};
use millrace_control::World;
use millrace_control::compile::{Compiler, Local, Publication};
use millrace_sandbox::{
    Fault, Grant, Instance, InstanceError, LoadError, Module, Sandbox, Settings,
};
use millrace_tables::Table;

/// What filters run on: one for all nodes.
pub struct Bench {
    // modules need their engine's clock
    _sandbox: Sandbox,
    module: Arc<Module>,
}

/// A node's filter.
pub struct Judge {
    compiler: Compiler,
    instance: Instance,
    tables: Vec<Table>,
    /// What its rules are called: the filter's own, and those of policies.
    rules: BTreeMap<u32, String>,
}

/// A connection that is to be opened, as the filter sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The kind of port that its first packet comes by.
    pub from: PortKind,
    /// Who opens it.
    pub source: IpAddr,
    /// Whom it is for, once a Service's address is translated.
    pub destination: IpAddr,
    /// The protocol's number.
    pub protocol: u8,
    /// The destination port; 0 for protocols without.
    pub port: u16,
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on: a rule of a policy says so, or nothing is against it.
    Allowed(Option<String>),
    /// It ends here, by this rule.
    Denied(String),
}

/// Why nothing can be asked.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The machine cannot run filters.
    #[error("filters cannot be run here: {0}")]
    Engine(String),
    /// The filter cannot be had.
    #[error("the policy filter: {0}")]
    Load(#[from] LoadError),
    /// The filter does not start, or does not take what it is told.
    #[error("the policy filter: {0}")]
    Instance(#[from] InstanceError),
    /// The filter fails.
    #[error("the policy filter: {0}")]
    Fault(#[from] Fault),
    /// There is no such pod or node.
    #[error("there is no {0} among the manifests")]
    Unknown(String),
}

impl Bench {
    /// Compiles the filter.
    ///
    /// # Errors
    /// If this machine cannot run it.
    pub fn new() -> Result<Self, RehearsalError> {
        let engine = |error: &dyn std::fmt::Display| RehearsalError::Engine(error.to_string());
        let sandbox = Sandbox::new(&Settings::default()).map_err(|error| engine(&error))?;
        let filter = millrace_builtin::find(FILTER).expect("it is among the built-in filters");
        let module = sandbox.load(filter.bytes, millrace_abi::limits::DEFAULT_MEMORY)?;
        Ok(Self { _sandbox: sandbox, module })
    }

    /// A node's filter, which has been told nothing yet.
    ///
    /// # Errors
    /// If it does not start.
    pub fn judge(&self, node: &str) -> Result<Judge, RehearsalError> {
        let grant = Grant { deadline: PATIENCE, ..Grant::new(FILTER) };
        let manifest = self.module.manifest();
        let rules = manifest.rules.iter().map(|rule| (rule.id, rule.help.clone())).collect();
        Ok(Judge {
            compiler: Compiler::new(node),
            instance: self.module.instantiate(&grant, "{}")?,
            tables: manifest.tables(),
            rules,
        })
    }
}

impl Judge {
    /// Tells the filter what has changed with another world, and returns all of what it was told.
    ///
    /// # Errors
    /// If the filter does not take it; it is good for nothing then.
    pub fn learn(&mut self, world: &World, local: Local) -> Result<(), RehearsalError> {
        self.compiler.note(local);
        self.compiler.learn(world.clone());
        let Publication { delta, generation, rules, .. } = self.compiler.compile();
        for page in delta.updates(&self.tables, *generation, millrace_abi::limits::MAX_UPDATE / 4) {
            self.instance.update(&page)?;
        }
        for (number, rule) in rules {
            match rule {
                Some(rule) => drop(self.rules.insert(*number, rule.to_string())),
                None => drop(self.rules.remove(number)),
            }
        }
        self.compiler.adopt();
        Ok(())
    }

    /// What the filter says about a connection.
    ///
    /// # Errors
    /// If it fails; it is good for nothing then.
    pub fn judge(&mut self, connection: &Connection) -> Result<Verdict, RehearsalError> {
        self.instance.slots_mut(1)[0] = connection.slot();
        let [decision] = self.instance.flow(1, Origin::New, 0)? else {
            unreachable!("one slot has one decision")
        };
        let rule = self.rules.get(&decision.rule).cloned();
        Ok(match Control::from_u8(decision.control) {
            Some(Control::Continue) => Verdict::Allowed(rule),
            _ => Verdict::Denied(rule.unwrap_or_else(|| format!("rule {}", decision.rule))),
        })
    }
}

impl Connection {
    fn slot(&self) -> Slot {
        let octets = |address: IpAddr| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        let destination = octets(self.destination);
        Slot {
            src_addr: octets(self.source),
            dst_addr: destination,
            to_addr: destination,
            src_port: SOME_PORT,
            dst_port: self.port,
            to_port: self.port,
            ip_version: if self.source.is_ipv4() { 4 } else { 6 },
            protocol: self.protocol,
            class: if self.port == 0 { Class::OtherIp } else { Class::Flow } as u8,
            ingress: 1,
            ingress_kind: self.from as u8,
            ..Slot::ZERO
        }
    }
}

const FILTER: &str = "policy";
/// No policy asks for the port that a connection is from.
const SOME_PORT: u16 = 50_000;
/// How long one question may take, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);
