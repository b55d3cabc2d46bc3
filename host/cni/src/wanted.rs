//! What a runtime may choose of a container's place, where the agent would choose else: addresses, a
//! link-layer address, and ports of the node that lead there. These are the capabilities `ips`, `mac`
//! and `portMappings` of CNI's conventions (CONVENTIONS.md of the specification).

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer, Serialize};

/// What is chosen; all else is the agent's choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Wanted {
    /// Addresses: at most one in each of the node's prefixes. Those of other prefixes it gets besides.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Address>,
    /// The link-layer address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddress>,
    /// Ports of the node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub port_mappings: Vec<PortMapping>,
}

/// An address. A length may stand behind it, and says nothing: the node's prefix has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(pub IpAddr);

/// A link-layer address that one interface may have (EUI-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// A port of the node that leads to a container. Its fields begin with a small letter by convention, and with
/// a capital as containerd writes them (go-cni's `PortMapping`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// The node's; 0 maps nothing.
    #[serde(alias = "HostPort")]
    pub host_port: u16,
    /// The container's.
    #[serde(alias = "ContainerPort")]
    pub container_port: NonZeroU16,
    /// With which protocol.
    #[serde(alias = "Protocol", default)]
    pub protocol: Protocol,
    /// The address of the node that has it; all of them without one.
    #[serde(
        rename = "hostIP",
        alias = "HostIP",
        default,
        deserialize_with = "stated",
        skip_serializing_if = "Option::is_none"
    )]
    pub host_ip: Option<IpAddr>,
}

/// A transport protocol that has ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// RFC 9293
    #[default]
    #[serde(alias = "TCP", alias = "")]
    Tcp,
    /// RFC 768
    #[serde(alias = "UDP")]
    Udp,
    /// RFC 9260
    #[serde(alias = "SCTP")]
    Sctp,
}

impl Wanted {
    /// Whether nothing is chosen.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// With what is said elsewhere of what is not said here.
    pub fn or(self, other: Self) -> Self {
        fn first<T>(one: Vec<T>, other: Vec<T>) -> Vec<T> {
            if one.is_empty() { other } else { one }
        }
        Self {
            ips: first(self.ips, other.ips),
            mac: self.mac.or(other.mac),
            port_mappings: first(self.port_mappings, other.port_mappings),
        }
    }
}

impl MacAddress {
    /// Its octets.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // who gives no length means the address alone
        let address = text.parse::<IpNetwork>().map(|it| it.ip());
        address.map(Self).map_err(|_| format!("`{text}` is no IP address"))
    }
}

impl FromStr for MacAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let octet = |part: &str| {
            let is_one = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            u8::from_str_radix(part, 16).ok().filter(|_| is_one)
        };
        let octets: Option<Vec<u8>> = text.split([':', '-']).map(octet).collect();
        let octets = octets.and_then(|octets| <[u8; 6]>::try_from(octets).ok());
        // the lowest bit of the first octet says that many have it (IEEE 802-2014, 8.2.2)
        let single = octets.filter(|octets| octets[0] & 1 == 0 && *octets != [0; 6]);
        single.map(Self).ok_or_else(|| {
            format!(
                "`{text}` is no link-layer address of one interface: write it as 0a:58:0a:01:00:09, \
                 with an even first octet"
            )
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl TryFrom<String> for MacAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

/// An address, unless it is empty or stands for all.
fn stated<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    let text = Option::<String>::deserialize(from)?.filter(|text| !text.is_empty());
    let address = text.map(|text| text.parse::<IpAddr>().map_err(serde::de::Error::custom));
    Ok(address.transpose()?.filter(|address| !address.is_unspecified()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c8_ports_are_read_as_runtimes_write_them() {
        let text = r#"[
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""},
            {"hostPort": 53, "containerPort": 5353, "protocol": "UDP", "hostIP": "192.0.2.1"},
            {"hostPort": 81, "containerPort": 81, "hostIP": "0.0.0.0", "name": "more"},
            {"HostPort": 54323, "ContainerPort": 8080, "Protocol": "sctp", "HostIP": "127.0.0.1"}
        ]"#;
        let [tcp, udp, all, containerd] =
            &serde_json::from_str::<Vec<PortMapping>>(text).unwrap()[..]
        else {
            panic!("four are written")
        };
        assert_eq!((tcp.host_port, tcp.protocol, tcp.host_ip), (8080, Protocol::Tcp, None));
        assert_eq!((udp.container_port.get(), udp.protocol), (5353, Protocol::Udp));
        assert_eq!(udp.host_ip, Some("192.0.2.1".parse().unwrap()));
        assert_eq!((all.protocol, all.host_ip), (Protocol::Tcp, None));
        assert_eq!((containerd.host_port, containerd.container_port.get()), (54323, 8080));
        assert_eq!(containerd.protocol, Protocol::Sctp);
        assert_eq!(containerd.host_ip, Some("127.0.0.1".parse().unwrap()));
        let again = serde_json::to_string(&udp).unwrap();
        assert_eq!(&serde_json::from_str::<PortMapping>(&again).unwrap(), udp);
    }

    #[test]
    fn c8_a_port_that_none_can_have_is_refused_and_so_is_a_protocol_without_ports() {
        for wrong in [
            r#"{"hostPort": 65536, "containerPort": 80}"#,
            r#"{"hostPort": 80, "containerPort": 0}"#,
            r#"{"hostPort": 80, "containerPort": 80, "protocol": "icmp"}"#,
            r#"{"hostPort": 80, "containerPort": 80, "hostIP": "localhost"}"#,
        ] {
            assert!(serde_json::from_str::<PortMapping>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn c8_a_link_layer_address_is_one_interfaces() {
        for text in ["0a:58:0a:01:00:09", "0A-58-0A-01-00-09"] {
            let mac: MacAddress = text.parse().unwrap();
            assert_eq!(mac.to_string(), "0a:58:0a:01:00:09");
        }
        for text in ["", "01:00:5e:00:00:01", "00:00:00:00:00:00", "a:b:c:d:e:f", "0a:58:0a:01:00"]
        {
            assert!(text.parse::<MacAddress>().unwrap_err().contains("even first octet"), "{text}");
        }
    }

    #[test]
    fn c8_what_is_said_first_counts() {
        let wanted = |text| serde_json::from_str::<Wanted>(text).unwrap();
        let first = wanted(r#"{"ips": ["10.1.0.9/24"]}"#);
        let other = wanted(r#"{"ips": ["10.1.0.8"], "mac": "0a:58:0a:01:00:09"}"#);
        let both = first.or(other.clone());
        assert_eq!(both.ips, [Address("10.1.0.9".parse().unwrap())]);
        assert_eq!(both.mac, other.mac);
        assert!(!both.is_nothing() && Wanted::default().is_nothing());
    }
}
