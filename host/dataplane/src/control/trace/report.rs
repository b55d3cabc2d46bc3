//! What is found about a packet, as JSON has it.

use std::net::{IpAddr, SocketAddr};

use millrace_abi::{Class, Reason, Slot};
use millrace_wire::{EtherType, IpProtocol, MacAddr};
use serde::{Deserialize, Serialize};

use crate::control::flows::{FlowStatus, Names};
use crate::control::status::Label;

/// What would become of a packet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceReport {
    /// The packet.
    pub packet: PacketStatus,
    /// The connection that it belongs to. Its packets go as was decided for it; what the stages say
    /// is what one like it would be told that opens another.
    pub connection: Option<Connected>,
    /// What the stages say, in order; those behind the one that ends its way are not asked.
    pub stages: Vec<StageTrace>,
    /// What becomes of it.
    pub ending: Ending,
}

/// A packet, as filters are told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketStatus {
    /// The port it comes in by.
    pub port: String,
    /// What it is: `flow`, `icmp`, `arp` …
    pub class: Label,
    /// `tcp`, `udp`, `arp`, or the number of the protocol.
    pub protocol: String,
    /// Whom it is from: an address, with a port if there is one.
    pub source: String,
    /// Whom it is for.
    pub destination: String,
    /// The VLAN of its tag; 0 without one.
    pub vlan: u16,
    /// Its time to live, or hop limit; 0 if it is not IP.
    pub ttl: u8,
    /// Bytes of its frame.
    pub length: u32,
}

/// A connection that there is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connected {
    /// Which way the packet goes: `original` or `reply`.
    pub direction: Label,
    /// The connection.
    pub flow: FlowStatus,
}

/// What a stage says about the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageTrace {
    /// The stage.
    pub stage: String,
    /// The filter in it.
    pub filter: String,
    /// Its version, counted from 1: the one in force, or the canary if the flow is among its.
    pub version: u64,
    /// `enforce` or `shadow`.
    pub mode: String,
    /// `answered`; `not-asked` of packets of other ports, or without a flow hook; `failed`; or
    /// `absent`, with no working filter.
    pub outcome: Label,
    /// `continue`, `drop` or `reject`, if it answered.
    pub control: Option<Label>,
    /// Why, for packets that go no further.
    pub reason: Option<Label>,
    /// Which of its rules decided.
    pub rule: Option<RuleStatus>,
    /// What it decided, in words of the contract: `egress mp2`, `to 10.0.0.2:80` …
    pub decided: Vec<String>,
    /// What that depends on, as `service 5`.
    pub tags: Vec<String>,
    /// How it failed.
    pub fault: Option<String>,
    /// What its packet hook does, if it is shown the packet.
    pub hook: Option<HookStatus>,
}

/// A filter's rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleStatus {
    /// Its number.
    pub id: u32,
    /// Its name; none if the manifest does not say.
    pub name: Option<String>,
    /// What it is about, likewise.
    pub help: Option<String>,
}

/// What a packet hook does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HookStatus {
    /// `pass`, `rewritten`, `drop`, `answer` or `failed`.
    pub verdict: Label,
    /// Why it is dropped.
    pub reason: Option<Label>,
    /// Which of its rules decided.
    pub rule: Option<RuleStatus>,
    /// How it failed.
    pub fault: Option<String>,
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ending {
    /// `forwarded`, `flooded`, `answered`, `dropped` or `rejected`.
    pub fate: Label,
    /// The stage that decided; the host itself, if there is none.
    pub by: Option<String>,
    /// Why it goes no further.
    pub reason: Option<Label>,
    /// The reason in a sentence.
    pub help: Option<String>,
    /// How it leaves.
    pub delivery: Option<DeliveryStatus>,
}

/// How a packet leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryStatus {
    /// The ports it leaves by.
    pub ports: Vec<String>,
    /// The largest IP packet that the narrowest of them carries.
    pub mtu: u32,
    /// The source it gets. Of a masqueraded one, the port is that which is tried first.
    pub source: Option<SocketAddr>,
    /// The destination it gets.
    pub destination: Option<SocketAddr>,
    /// The link-layer address that it is sent from, if it gets another one.
    pub source_mac: Option<String>,
    /// The link-layer address that it is sent to, likewise.
    pub destination_mac: Option<String>,
    /// Its time to live, or hop limit, when it leaves; 0 if it is not IP.
    pub ttl: u8,
    /// Who carries its connection.
    pub offload: OffloadStatus,
}

/// Who carries a connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OffloadStatus {
    /// Whether the kernel does, this way.
    pub there: bool,
    /// Whether the kernel does, the other way.
    pub back: bool,
    /// Why a worker does.
    pub why_not: Option<String>,
}

impl PacketStatus {
    pub(super) fn of(slot: &Slot, names: &Names<'_>) -> Self {
        let end = |address: Option<IpAddr>, port, mac| match (address, slot.class()) {
            (Some(address), Class::Flow) => SocketAddr::new(address, port).to_string(),
            (Some(address), _) => address.to_string(),
            (None, _) => MacAddr(mac).to_string(),
        };
        let protocol = match slot.ip_version {
            0 => EtherType(slot.ethertype).to_string(),
            _ => IpProtocol(slot.protocol).to_string(),
        };
        Self {
            port: (names.port)(slot.ingress).unwrap_or_else(|| slot.ingress.to_string()),
            class: slot.class().label().into(),
            protocol: protocol.to_lowercase(),
            source: end(slot.source(), slot.src_port, slot.src_mac),
            destination: end(slot.destination(), slot.dst_port, slot.dst_mac),
            vlan: slot.vlan,
            ttl: slot.ttl,
            length: slot.len,
        }
    }
}

impl Ending {
    pub(super) fn dropped(reason: Reason, by: Option<String>) -> Self {
        Self {
            fate: "dropped".into(),
            by,
            reason: Some(reason.label().into()),
            help: Some(reason.help().to_owned()),
            delivery: None,
        }
    }
}
