//! What a runtime says on standard input: the configuration of a network.
//!
//! Owns what of it counts here. What is not done here is refused by name: a network that is
//! configured for more than it does would be found out by its users.

use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{AttachmentId, Bandwidth, Code, Failure, Version};

/// The configuration of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The version that the runtime speaks.
    pub version: Version,
    /// The network's name.
    pub name: String,
    /// The agent's admin socket.
    pub socket: PathBuf,
    /// What is said of DNS; the result repeats it.
    pub dns: Option<Map<String, Value>>,
    /// How much the container may receive and send.
    pub bandwidth: Bandwidth,
    /// What the plugins before have made, or of DEL and CHECK all plugins.
    pub previous: Option<Previous>,
    /// The attachments that there are to be, for GC.
    pub valid: Vec<AttachmentId>,
}

/// A result: what plugins have made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Previous {
    /// Interfaces, on the node and in the container.
    #[serde(default)]
    pub interfaces: Vec<Map<String, Value>>,
    /// Addresses.
    #[serde(default)]
    pub ips: Vec<Map<String, Value>>,
    /// Routes in the container.
    #[serde(default)]
    pub routes: Vec<Map<String, Value>>,
    /// All else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    #[serde(default)]
    name: String,
    socket: Option<PathBuf>,
    #[serde(default)]
    ipam: Map<String, Value>,
    dns: Option<Map<String, Value>>,
    #[serde(default)]
    runtime_config: RuntimeConfig,
    prev_result: Option<Previous>,
    #[serde(rename = "cni.dev/valid-attachments", default)]
    valid: Vec<Valid>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConfig {
    #[serde(default)]
    bandwidth: Rates,
    #[serde(default)]
    ips: Vec<IpNetwork>,
    mac: Option<String>,
}

/// Bits per second; 0 is no limit. How much may burst follows from the rate.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rates {
    #[serde(default)]
    ingress_rate: u64,
    #[serde(default)]
    egress_rate: u64,
}

#[derive(Deserialize)]
struct Valid {
    #[serde(rename = "containerID")]
    container: String,
    #[serde(rename = "ifname")]
    interface: String,
}

impl Network {
    /// Reads a configuration.
    ///
    /// # Errors
    /// If it cannot be read, asks for what is not done here, or makes no sense; with the version
    /// in which to say so.
    pub fn read(text: &[u8]) -> Result<Self, (Version, Failure)> {
        let undecoded = |version, error: serde_json::Error| {
            (version, Failure::new(Code::Decoding, "the network configuration", error))
        };
        let value: Value =
            serde_json::from_slice(text).map_err(|error| undecoded(Version::LATEST, error))?;
        let version = version(&value).map_err(|failure| (Version::LATEST, failure))?;
        let text: Text =
            serde_json::from_value(value).map_err(|error| undecoded(version, error))?;
        text.network(version).map_err(|failure| (version, failure))
    }
}

impl Text {
    fn network(self, version: Version) -> Result<Network, Failure> {
        let refused = |field: &str, value: &dyn std::fmt::Debug, reason: &str| {
            Err(Failure::new(Code::Field, format!("`{field}`: {value:?}"), reason))
        };
        if !is_name(&self.name) {
            let rule = "give the network a `name`: letters, digits, `_`, `.` and `-`, with a \
                        letter or digit at the start";
            return Err(Failure::new(
                Code::Configuration,
                format!("`name`: {:?}", self.name),
                rule,
            ));
        }
        if !self.ipam.is_empty() {
            return refused(
                "ipam",
                &self.ipam,
                "addresses are of the Node's podCIDRs: leave it out",
            );
        }
        if !self.runtime_config.ips.is_empty() {
            return refused("ips", &self.runtime_config.ips, "nobody can choose an address");
        }
        if let Some(mac) = &self.runtime_config.mac {
            return refused("mac", mac, "nobody can choose a link-layer address");
        }
        let Rates { ingress_rate, egress_rate } = self.runtime_config.bandwidth;
        let rate = |rate| (rate > 0).then_some(rate);
        let id =
            |valid: Valid| AttachmentId { container: valid.container, interface: valid.interface };
        Ok(Network {
            version,
            name: self.name,
            socket: self.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            dns: self.dns.filter(|dns| !dns.is_empty()),
            bandwidth: Bandwidth { ingress: rate(ingress_rate), egress: rate(egress_rate) },
            previous: self.prev_result,
            valid: self.valid.into_iter().map(id).collect(),
        })
    }
}

/// The version that a configuration is written in.
///
/// # Errors
/// If it is none that is spoken here.
pub(crate) fn version(configuration: &Value) -> Result<Version, Failure> {
    let said = configuration.get("cniVersion").and_then(Value::as_str);
    // who does not say speaks the first version
    let said = said.unwrap_or("0.1.0");
    said.parse().map_err(|()| {
        let spoken = Version::ALL.map(Version::text).join(", ");
        let details = format!("spoken are {spoken}");
        Failure::new(Code::Version, format!("CNI version {said} is not spoken"), details)
    })
}

fn is_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.bytes().all(inner)
}

/// Where an agent answers unless it was told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/millrace/millrace.sock";

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Code {
        Network::read(text.as_bytes()).unwrap_err().1.code
    }

    #[test]
    fn a_configuration_says_what_counts_here() {
        let text = br#"{
            "cniVersion": "1.1.0", "name": "millrace", "type": "millrace-cni", "socket": "/x.sock",
            "capabilities": {"bandwidth": true}, "args": {"others": 1},
            "runtimeConfig": {"bandwidth": {"ingressRate": 8000, "egressRate": 0}},
            "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]
        }"#;
        let network = Network::read(text).unwrap();
        assert_eq!(network.version, Version::V1_1_0);
        assert_eq!(network.socket, PathBuf::from("/x.sock"));
        assert_eq!(network.bandwidth, Bandwidth { ingress: Some(8000), egress: None });
        let id = AttachmentId { container: "a".into(), interface: "eth0".into() };
        assert_eq!(network.valid, [id]);

        let least = Network::read(br#"{"cniVersion": "0.3.1", "name": "n"}"#).unwrap();
        assert_eq!(least.socket, PathBuf::from(DEFAULT_SOCKET));
        assert_eq!((least.bandwidth, least.previous), (Bandwidth::default(), None));
    }

    #[test]
    fn c3_what_cannot_be_read_or_done_has_the_code_of_the_specification() {
        assert_eq!(code("{"), Code::Decoding);
        assert_eq!(code("[]"), Code::Version);
        assert_eq!(code(r#"{"name": "n"}"#), Code::Version);
        assert_eq!(code(r#"{"cniVersion": "0.2.0", "name": "n"}"#), Code::Version);
        assert_eq!(code(r#"{"cniVersion": "1.2.0", "name": "n"}"#), Code::Version);
        assert_eq!(code(r#"{"cniVersion": "1.0.0", "name": 7}"#), Code::Decoding);
        assert_eq!(code(r#"{"cniVersion": "1.0.0"}"#), Code::Configuration);
        assert_eq!(code(r#"{"cniVersion": "1.0.0", "name": "../n"}"#), Code::Configuration);
        for field in [
            r#""ipam": {"type": "host-local"}"#,
            r#""runtimeConfig": {"ips": ["10.1.0.9/24"]}"#,
            r#""runtimeConfig": {"mac": "02:00:00:00:00:01"}"#,
        ] {
            assert_eq!(
                code(&format!(r#"{{"cniVersion": "1.0.0", "name": "n", {field}}}"#)),
                Code::Field
            );
        }
    }
}
