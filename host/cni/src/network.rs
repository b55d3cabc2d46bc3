//! What a runtime says on standard input: the configuration of a network.
//!
//! Owns what of it counts here. What is not done here is refused by name: a network that is
//! configured for more than it does would be found out by its users.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::wanted::Address;
use crate::{AttachmentId, Bandwidth, Code, Failure, MacAddress, PortMapping, Version, Wanted};

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
    /// What of the container's place is chosen already.
    pub wanted: Wanted,
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
    #[serde(default)]
    args: Args,
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
    ips: Vec<Address>,
    mac: Option<MacAddress>,
    #[serde(default)]
    port_mappings: Vec<PortMapping>,
}

/// What of `args` is any plugin's (`args.cni`).
#[derive(Default, Deserialize)]
struct Args {
    #[serde(default)]
    cni: CniArgs,
}

#[derive(Default, Deserialize)]
struct CniArgs {
    #[serde(default)]
    ips: Vec<Address>,
    mac: Option<MacAddress>,
}

/// Bits per second; 0 is no limit. How much may burst follows from the rate. With capitals as containerd
/// writes them (go-cni's `BandWidth`).
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rates {
    #[serde(alias = "IngressRate", default)]
    ingress_rate: u64,
    #[serde(alias = "EgressRate", default)]
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
            serde_json::from_value(said(value)).map_err(|error| undecoded(version, error))?;
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
        let RuntimeConfig { bandwidth, ips, mac, mut port_mappings } = self.runtime_config;
        // such a port is no port of the node
        port_mappings.retain(|mapping| mapping.host_port != 0);
        let Args { cni } = self.args;
        let otherwise = Wanted { ips: cni.ips, mac: cni.mac, port_mappings: Vec::new() };
        let wanted = Wanted { ips, mac, port_mappings }.or(otherwise);
        let Rates { ingress_rate, egress_rate } = bandwidth;
        let rate = |rate| (rate > 0).then_some(rate);
        let id =
            |valid: Valid| AttachmentId { container: valid.container, interface: valid.interface };
        Ok(Network {
            version,
            name: self.name,
            socket: self.socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            dns: self.dns.filter(|dns| !dns.is_empty()),
            bandwidth: Bandwidth { ingress: rate(ingress_rate), egress: rate(egress_rate) },
            wanted,
            previous: self.prev_result,
            valid: self.valid.into_iter().map(id).collect(),
        })
    }
}

/// What is said, without what is null: so runtimes write what they say nothing of.
fn said(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let said_of = |(name, value)| (name, said(value));
            fields.into_iter().filter(|(_, value)| !value.is_null()).map(said_of).collect()
        }
        Value::Array(values) => values.into_iter().map(said).collect(),
        other => other,
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
            "capabilities": {"bandwidth": true, "ips": true}, "args": {"others": 1,
                "cni": {"ips": ["10.1.0.8"], "mac": "0a:58:0a:01:00:09", "labels": []}},
            "runtimeConfig": {"bandwidth": {"ingressRate": 8000, "egressRate": 0},
                "ips": ["10.1.0.9/24"], "portMappings": [
                    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                    {"hostPort": 0, "containerPort": 81, "protocol": "tcp"}]},
            "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]
        }"#;
        let network = Network::read(text).unwrap();
        assert_eq!(network.version, Version::V1_1_0);
        assert_eq!(network.socket, PathBuf::from("/x.sock"));
        assert_eq!(network.bandwidth, Bandwidth { ingress: Some(8000), egress: None });
        let id = AttachmentId { container: "a".into(), interface: "eth0".into() };
        assert_eq!(network.valid, [id]);
        let Wanted { ips, mac, port_mappings } = &network.wanted;
        assert_eq!(ips[..], ["10.1.0.9".parse().unwrap()], "the runtime's word counts");
        assert_eq!(mac.unwrap().to_string(), "0a:58:0a:01:00:09");
        assert_eq!(port_mappings.iter().map(|it| it.host_port).collect::<Vec<_>>(), [8080]);

        let containerd = br#"{"cniVersion": "1.0.0", "name": "n", "runtimeConfig": {"bandwidth":
            {"IngressRate": 0, "IngressBurst": 0, "EgressRate": 9000, "EgressBurst": 1}}}"#;
        let bandwidth = Network::read(containerd).unwrap().bandwidth;
        assert_eq!(bandwidth, Bandwidth { ingress: None, egress: Some(9000) });

        let nothing = br#"{"cniVersion": "1.1.0", "name": "n", "socket": null, "ipam": null,
            "dns": null, "args": null, "prevResult": null, "cni.dev/valid-attachments": null,
            "runtimeConfig": {"bandwidth": null, "ips": null, "mac": null, "portMappings": null}}"#;
        let least = Network::read(nothing).unwrap();
        assert_eq!((least.dns, least.wanted, least.valid), (None, Wanted::default(), vec![]));
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
        for (field, expected) in [
            (r#""ipam": {"type": "host-local"}"#, Code::Field),
            (r#""runtimeConfig": {"ips": ["10.1.0"]}"#, Code::Decoding),
            (r#""runtimeConfig": {"mac": "01:00:5e:00:00:01"}"#, Code::Decoding),
            (r#""runtimeConfig": {"portMappings": [{"hostPort": 80}]}"#, Code::Decoding),
        ] {
            let said = code(&format!(r#"{{"cniVersion": "1.0.0", "name": "n", {field}}}"#));
            assert_eq!(said, expected, "{field}");
        }
    }
}
