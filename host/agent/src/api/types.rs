//! What is said over the admin socket, in both directions; flags and the configuration
//! file say it with the same types.
//!
//! What can be seen of a dataplane is `millrace_dataplane`'s own plain data, repeated here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Args, ValueEnum};
use ipnetwork::IpNetwork;
use millrace_abi::{Capability, PortKind, limits};
use millrace_builtin::{BUILT_IN, EXAMPLES};
use millrace_control::source::Mark;
pub(crate) use millrace_dataplane::control::flows::{FlowDirection, FlowStatus};
use millrace_dataplane::control::near_miss;
pub(crate) use millrace_dataplane::control::request::Position;
use millrace_dataplane::control::request::{AddPort, Load, StageTerms};
pub(crate) use millrace_dataplane::control::status::{
    CacheStatus, FateStatus, FilterStatus, Label, LogLine, MetricStatus, PortState, PortStatus,
    RuleDrops, StageState, StageStatus, WorkerStatus,
};
pub(crate) use millrace_dataplane::control::trace::{
    Connected, DeliveryStatus, HookStatus, OffloadStatus, RuleStatus, StageTrace, TraceReport,
};
pub(crate) use millrace_dataplane::control::{ANY_PORT, Redecided};
use millrace_dataplane::port::{Hold, Vlans};
pub(crate) use millrace_dataplane::stage::{Mode, OnFault, OnRefused};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::node::{ChainStanding, FilterStanding, PrefixUse, RefusedStatus};
use crate::text::{self, ByteCount, Span, Word, words};

/// A port to be added.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PortSpec {
    /// The interface, whose name the port has.
    pub(crate) name: String,
    /// What it leads to: `wire`, `pod`, `host`, `uplink` or `remote`; `wire` unless said.
    #[serde(default = "wire")]
    pub(crate) kind: Word<PortKind>,
    /// The VLANs it carries: `transparent`, `access:10`, `trunk:10+20-29` or
    /// `trunk:10+native:1`; `transparent` unless said.
    #[serde(default = "Vlans::transparent", with = "text")]
    pub(crate) vlans: Vlans,
}

/// A filter to be put into the chain.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoadFilter {
    /// The stage's name, not taken yet.
    pub(crate) name: String,
    /// The module.
    pub(crate) module: Module,
    /// Its configuration; none is an empty one.
    #[serde(default)]
    pub(crate) config: Value,
    /// Where in the chain; behind all others unless said.
    #[serde(default)]
    pub(crate) position: Position,
    /// The terms it runs on.
    #[serde(default)]
    pub(crate) terms: Terms,
}

/// A module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Module {
    /// A filter that the host has, by its name.
    BuiltIn(String),
    /// A module's bytes; Base64 in JSON.
    Wasm(Wasm),
}

/// A module's bytes.
#[derive(Clone)]
pub(crate) struct Wasm(pub(crate) Vec<u8>);

/// The terms that a filter runs on; what is not said is the default.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Terms {
    /// Ask the filter only about packets that come in by this port (repeat it for several).
    ///
    /// With neither ports nor kinds, it is asked about all packets. A port that is not there yet
    /// counts from when it is added.
    #[arg(long = "port", value_name = "PORT")]
    pub(crate) ports: Vec<String>,
    /// Ask the filter only about packets that come in by a port of this kind (repeatable).
    #[arg(long = "kind", value_name = "KIND", value_parser = words::<PortKind>())]
    pub(crate) kinds: Vec<Word<PortKind>>,
    /// What happens to packets when the filter fails: `closed` drops them (the default), `open`
    /// lets them go on as if the filter were not there.
    #[arg(long, value_name = "closed|open")]
    pub(crate) on_fault: Option<OnFault>,
    /// What happens to live connections that the filter refuses once it, or what it goes by, has
    /// changed: their packets are dropped (`drop`, the default), they go on (`keep`), or both ends
    /// are told that it is over (`reset`).
    #[arg(long, value_name = "drop|keep|reset")]
    pub(crate) on_refused: Option<OnRefused>,
    /// Whether the filter's answers count: `enforce` (the default), or `shadow`, which only
    /// compares them with what the others decide.
    #[arg(long, value_name = "enforce|shadow")]
    pub(crate) mode: Option<Mode>,
    /// What the filter may do, out of what its manifest wants; all of that by default.
    ///
    /// A filter that lacks a capability still runs; an answer that needs it is a fault.
    #[arg(long = "grant", value_name = "CAPABILITIES", value_delimiter = ',',
          value_parser = words::<Capability>())]
    pub(crate) capabilities: Option<Vec<Word<Capability>>>,
    /// Memory of each instance, in bytes with a unit; 64MiB by default. There are two instances
    /// for each worker, and what they do not touch costs nothing.
    #[arg(long, value_name = "BYTES")]
    pub(crate) memory: Option<ByteCount>,
    /// How long one call of a hook may take; 10ms by default, in steps of 5ms. Packets of a call
    /// that takes longer meet `on-fault`.
    #[arg(long, value_name = "TIME")]
    pub(crate) deadline: Option<Span>,
}

/// A module in place of another one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SwapFilter {
    /// The module.
    pub(crate) module: Module,
    /// Its configuration; the one in force unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Value>,
}

/// A module to be tried on some flows.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StartCanary {
    /// How many of a hundred flows, 1 to 99.
    pub(crate) percent: u8,
    /// The module.
    pub(crate) module: Module,
    /// Its configuration; the one in force unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Value>,
}

/// A host, on one screen.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HostStatus {
    /// Its version.
    pub(crate) version: String,
    /// The version of the filter ABI that it speaks.
    pub(crate) abi: u32,
    /// Its process.
    pub(crate) pid: u32,
    /// How long it runs, in milliseconds.
    pub(crate) uptime_ms: u64,
    /// Where its metrics are, if anywhere.
    pub(crate) metrics: Option<String>,
    /// The kernel's flow cache, if this is a node.
    pub(crate) cache: Option<CacheStatus>,
    /// Its ports.
    pub(crate) ports: Vec<Port>,
    /// Its chain.
    pub(crate) filters: Vec<StageStatus>,
    /// What has become of FilterChains and Filters, if this is a node of a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resources: Option<Resources>,
    /// The mark of the manifests that are in force, if this is a node that follows a directory of
    /// them: they have it as long as no file changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) manifests: Option<Mark>,
    /// Its workers.
    pub(crate) workers: Vec<WorkerStatus>,
    /// Who else does on its node what it does, in sentences.
    #[serde(default)]
    pub(crate) others: Vec<String>,
    /// What the kernel refuses of its node's network, and is tried again, in sentences.
    #[serde(default)]
    pub(crate) refused: Vec<String>,
}

/// What has become of a cluster's objects that say which filters a node's chain has.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Resources {
    /// By name.
    pub(crate) filter_chains: BTreeMap<String, ChainStanding>,
    /// By name.
    pub(crate) filters: BTreeMap<String, FilterStanding>,
}

/// A stage, and who says that it is there.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stage {
    /// As the dataplane has it.
    #[serde(flatten)]
    pub(crate) status: StageStatus,
    /// The FilterChain; absent if the agent or somebody by hand has put it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) chain: Option<String>,
}

/// A port, and who is behind it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Port {
    /// As the dataplane has it.
    #[serde(flatten)]
    pub(crate) status: PortStatus,
    /// The pod behind it, as `namespace/name`.
    pub(crate) pod: Option<String>,
    /// Its addresses, with the length of their prefix.
    pub(crate) addresses: Vec<IpNetwork>,
}

/// Everything that is counted, at one moment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stats {
    /// When, in milliseconds since the host's start.
    pub(crate) uptime_ms: u64,
    /// Of the kernel's flow cache, if there is one.
    pub(crate) cache: Option<CacheStatus>,
    /// By port.
    pub(crate) ports: Vec<PortStatus>,
    /// The pods behind ports, as `namespace/name` by the port's name.
    pub(crate) pods: BTreeMap<String, String>,
    /// By worker.
    pub(crate) workers: Vec<WorkerStatus>,
    /// By stage.
    pub(crate) filters: Vec<StageStatus>,
    /// What became of packets.
    pub(crate) fates: Vec<FateStatus>,
    /// What the kernel refuses of the node's network, by matter; empty if this is no node.
    pub(crate) refused: Vec<RefusedStatus>,
    /// How many of the node's addresses pods have, by prefix; empty if this is no node.
    pub(crate) addresses: Vec<PrefixUse>,
}

/// Connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Flows {
    /// How many there are.
    pub(crate) connections: u64,
    /// Those that were asked for.
    pub(crate) flows: Vec<Flow>,
}

/// A connection.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Flow {
    /// As the dataplane has it.
    #[serde(flatten)]
    pub(crate) status: FlowStatus,
    /// The pod that opened it, as `namespace/name`.
    pub(crate) client_pod: Option<String>,
    /// The pod that it leads to.
    pub(crate) server_pod: Option<String>,
    /// What the rule of a policy is called that has it end, or else the one that it goes on by now:
    /// also what policies would do that are audited alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
}

/// A packet that nobody sent: its frame, or what there is to know of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct TracePacket {
    /// Where it comes in: a pod, a port, or `host`.
    pub(crate) from: String,
    /// Its bytes from the Ethernet header on, in Base64; nothing else is to be said then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) frame: Option<String>,
    /// Where it goes: an address with a port, or without one for `icmp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// Its protocol; `tcp` unless said.
    pub(crate) protocol: TraceProtocol,
    /// The address it comes from; the pod's own unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<IpAddr>,
    /// The port it comes from; 50000 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_port: Option<u16>,
    /// The link-layer address it comes from; the pod's own unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source_mac: Option<String>,
    /// The one it is sent to; a neighbour's or the gateway's unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) destination_mac: Option<String>,
    /// Its time to live, or hop limit; 64 unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ttl: Option<u8>,
    /// Bytes of the IP packet; those of its headers unless said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) length: Option<u32>,
}

/// The protocol of a packet that nobody sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TraceProtocol {
    /// A SYN.
    #[default]
    Tcp,
    /// A datagram.
    Udp,
    /// A packet without chunks.
    Sctp,
    /// An echo request, of ICMP or ICMPv6.
    Icmp,
}

/// What would become of a packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Trace {
    /// As the dataplane has it.
    #[serde(flatten)]
    pub(crate) report: TraceReport,
    /// The pods behind ports, as `namespace/name` by the port's name.
    pub(crate) pods: BTreeMap<String, String>,
}

/// A packet that passed, traced.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LiveTrace {
    /// What became of it.
    pub(crate) happened: Happened,
    /// What would become of one like it now.
    #[serde(flatten)]
    pub(crate) trace: Trace,
}

/// What became of a packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Happened {
    /// When it came, in milliseconds since the Unix epoch.
    pub(crate) time_ms: u64,
    /// Its fate.
    pub(crate) fate: Label,
    /// The stage that decided; the host itself, if there is none.
    pub(crate) by: Option<String>,
    /// Which of its rules.
    pub(crate) rule: Option<RuleStatus>,
    /// Why it went no further.
    pub(crate) reason: Option<Label>,
    /// The port it left by, if it was one.
    pub(crate) egress: Option<String>,
    /// Who carried it: `chain` or `worker` (one that asked the chain, or remembered), or `kernel`.
    pub(crate) carrier: Label,
}

/// How often workers were held up by changes, for about how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pauses {
    /// They were shorter than this many nanoseconds, and not shorter than the bound before: there
    /// are four bounds to each power of two.
    pub(crate) below_ns: u64,
    /// How many.
    pub(crate) count: u64,
}

/// Why a request was not done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// For people: what, why, and what to do.
    pub(crate) error: String,
}

impl FromStr for PortSpec {
    type Err = String;

    /// Reads `NAME[,kind=KIND][,vlans=VLANS]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default().to_owned();
        if name.is_empty() {
            return Err("it begins with the name of an interface, as in `eth0,kind=uplink`".into());
        }
        let mut port = Self { name, kind: wire(), vlans: Vlans::transparent() };
        for part in parts {
            match part.split_once('=') {
                Some(("kind", kind)) => port.kind = kind.parse()?,
                Some(("vlans", vlans)) => {
                    port.vlans = vlans.parse().map_err(|error| format!("{error}"))?;
                }
                _ => return Err(format!("`{part}` is neither `kind=…` nor `vlans=…`")),
            }
        }
        Ok(port)
    }
}

impl From<PortSpec> for AddPort {
    fn from(port: PortSpec) -> Self {
        let PortSpec { name, kind, vlans } = port;
        Self { interface: name, kind: kind.0, vlans, hold: Hold::Direct, beyond: None }
    }
}

impl TryFrom<LoadFilter> for Load {
    type Error = String;

    fn try_from(load: LoadFilter) -> Result<Self, String> {
        Ok(Self {
            name: load.name,
            module: load.module.bytes()?,
            config: match load.config {
                Value::Null => String::new(),
                config => config.to_string(),
            },
            position: load.position,
            terms: load.terms.into(),
        })
    }
}

impl Module {
    /// The module's bytes.
    ///
    /// # Errors
    /// If there is no built-in filter of that name.
    pub(crate) fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Wasm(wasm) => Ok(wasm.0),
            Self::BuiltIn(name) => millrace_builtin::find(&name)
                .map(|module| module.bytes.to_vec())
                .ok_or_else(|| format!("there is no built-in filter {}", not_built_in(&name))),
        }
    }
}

impl From<Terms> for StageTerms {
    fn from(terms: Terms) -> Self {
        let usual = Self::default();
        Self {
            ports: terms.ports.into_iter().collect(),
            kinds: terms.kinds.into_iter().map(|kind| kind.0).collect(),
            on_fault: terms.on_fault.unwrap_or(usual.on_fault),
            on_refused: terms.on_refused.unwrap_or(usual.on_refused),
            mode: terms.mode.unwrap_or(usual.mode),
            capabilities: terms.capabilities.map_or(usual.capabilities, |granted| {
                granted.into_iter().map(|capability| capability.0).collect()
            }),
            memory: terms.memory.map_or(usual.memory, |memory| memory.amount() as usize),
            deadline: terms.deadline.map_or(usual.deadline, Span::duration),
        }
    }
}

impl Serialize for Wasm {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Wasm {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let decoded = BASE64.decode(String::deserialize(from)?);
        decoded.map(Self).map_err(|error| serde::de::Error::custom(format!("no Base64: {error}")))
    }
}

impl std::fmt::Debug for Wasm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A name that no built-in filter has, and those there are.
pub(crate) fn not_built_in(name: &str) -> String {
    let known = BUILT_IN.iter().chain(EXAMPLES).map(|module| module.name);
    let meant = near_miss(name, known.clone());
    let meant = meant.map_or_else(String::new, |near| format!("did you mean `{near}`? "));
    format!("`{name}`; {meant}there are {}", known.collect::<Vec<_>>().join(", "))
}

fn wire() -> Word<PortKind> {
    Word(PortKind::Wire)
}

/// Bytes of a request's body: the largest module in Base64, the largest configuration, and some
/// slack for the rest.
pub(crate) const MAX_BODY: usize =
    limits::MAX_MODULE.div_ceil(3) * 4 + limits::MAX_CONFIG + (64 << 10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_from_its_flag_with_defaults_for_the_rest() {
        let plain: PortSpec = "veth0".parse().unwrap();
        assert_eq!((&*plain.name, plain.kind.0), ("veth0", PortKind::Wire));
        assert_eq!(plain.vlans, Vlans::transparent());

        let full: PortSpec = "veth0,vlans=trunk:10+20+native:1,kind=pod".parse().unwrap();
        assert_eq!(full.kind.0, PortKind::Pod);
        assert_eq!(full.vlans.to_string(), "trunk:10+20+native:1");
    }

    #[test]
    fn a_wrong_port_says_what_is_wrong_with_it() {
        for (text, complaint) in [
            ("", "the name of an interface"),
            (",kind=pod", "the name of an interface"),
            ("a,kind=pond", "`pond` is no kind of port"),
            ("a,vlans=access:5000", "`access:5000` is not"),
            ("a,mtu=9000", "`mtu=9000` is neither"),
            ("a,pod", "`pod` is neither"),
        ] {
            let error = text.parse::<PortSpec>().unwrap_err();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn a_request_comes_out_of_json_as_it_went_in() {
        let load = LoadFilter {
            name: "deny".into(),
            module: Module::Wasm(Wasm(vec![0, 0x61, 0x73, 0x6d])),
            config: serde_json::json!({"rules": []}),
            position: Position::Before("bridge".into()),
            terms: Terms {
                capabilities: Some(vec![Word(Capability::Drop)]),
                memory: Some(ByteCount::new(1 << 20)),
                on_fault: Some(OnFault::Open),
                ..Terms::default()
            },
        };
        let json = serde_json::to_value(&load).unwrap();
        assert_eq!(json["module"], serde_json::json!({"wasm": "AGFzbQ=="}));
        assert_eq!(json["position"], serde_json::json!({"before": "bridge"}));
        let back: LoadFilter = serde_json::from_value(json).unwrap();
        assert_eq!(format!("{back:?}"), format!("{load:?}"));
    }

    #[test]
    fn terms_that_are_not_said_are_the_usual_ones() {
        let (said, usual) = (StageTerms::from(Terms::default()), StageTerms::default());
        assert_eq!(format!("{said:?}"), format!("{usual:?}"));
    }

    #[test]
    fn a_body_has_room_for_the_largest_module() {
        let load = SwapFilter {
            module: Module::Wasm(Wasm(vec![0xff; limits::MAX_MODULE])),
            config: Some(Value::String("x".repeat(limits::MAX_CONFIG))),
        };
        assert!(serde_json::to_vec(&load).unwrap().len() < MAX_BODY);
    }
}
