//! What plugin and agent say to each other of a container's place in the network.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{PortMapping, Wanted};

/// What tells an attachment from others. A pod's name does not: while one is taken down, another of
/// the same name may be there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct AttachmentId {
    /// The container: what the runtime calls it.
    pub container: String,
    /// The interface in its namespace.
    pub interface: String,
}

/// A container that is to be attached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attach {
    /// The path of its network namespace.
    pub netns: PathBuf,
    /// The pod that it is, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The network that the runtime puts it in, by the name in its configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// How much it may receive and send.
    #[serde(default)]
    pub bandwidth: Bandwidth,
    /// What of its place is chosen already.
    #[serde(default, skip_serializing_if = "Wanted::is_nothing")]
    pub wanted: Wanted,
}

/// How many bits per second a container may receive and send; without a limit unless there is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bandwidth {
    /// Towards the container.
    pub ingress: Option<u64>,
    /// From the container.
    pub egress: Option<u64>,
}

/// A container that is attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attached {
    /// What tells it from others.
    pub id: AttachmentId,
    /// The pod that it is, as `namespace/name`, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The runtime's network, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The path of its network namespace.
    pub netns: PathBuf,
    /// Its port, which is the name of the node's end too.
    pub port: String,
    /// Its link-layer address.
    pub mac: String,
    /// Its addresses, with the length of the node's prefix.
    pub addresses: Vec<IpNetwork>,
    /// The gateway of each.
    pub gateways: Vec<IpNetwork>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Ports of the node that lead to it because its runtime wants them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
    /// How much it may receive and send.
    #[serde(default, skip_serializing_if = "Bandwidth::is_unlimited")]
    pub bandwidth: Bandwidth,
}

impl Bandwidth {
    fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

impl AttachmentId {
    /// Where the agent has it.
    pub fn path(&self) -> String {
        format!("{ATTACHMENTS}/{}/{}", segment(&self.container), segment(&self.interface))
    }
}

impl Attached {
    /// What people know it by: its pod, or else its container.
    pub fn title(&self) -> &str {
        self.pod.as_deref().unwrap_or(&self.id.container)
    }
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.container, self.interface)
    }
}

impl FromStr for AttachmentId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once(':') {
            Some((container, interface)) if !container.is_empty() && !interface.is_empty() => {
                Ok(Self { container: container.to_owned(), interface: interface.to_owned() })
            }
            _ => Err(format!("`{text}` is no attachment: write `container:interface`")),
        }
    }
}

impl TryFrom<String> for AttachmentId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AttachmentId> for String {
    fn from(id: AttachmentId) -> Self {
        id.to_string()
    }
}

/// A name as one segment of a path (RFC 3986 section 2.1).
pub fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escape = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(escape).collect()
}

/// Where the agent has all attachments.
pub const ATTACHMENTS: &str = "/v1/attachments";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_of_a_path() {
        assert_eq!(segment("veth-a_1.x"), "veth-a_1.x");
        assert_eq!(segment("a/../b?c=d#e%f \u{e9}"), "a%2F..%2Fb%3Fc%3Dd%23e%25f%20%C3%A9");
    }

    #[test]
    fn an_attachment_is_known_by_its_text() {
        let id = AttachmentId { container: "0123abc".into(), interface: "eth0".into() };
        assert_eq!(id.to_string(), "0123abc:eth0");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "eth0", ":eth0", "0123abc:"] {
            assert!(text.parse::<AttachmentId>().unwrap_err().contains("container:interface"));
        }
    }
}
