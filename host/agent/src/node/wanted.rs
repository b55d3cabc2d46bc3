//! What the runtime of a pod has chosen of its place: a link-layer address that is nobody else's here,
//! and ports of the node. Which addresses can be had `ipam` knows.

use millrace_cni::wanted::{MacAddress, Protocol};
use millrace_cni::{Attached, AttachmentId, PortMapping};
use millrace_control::compile::Mapped;
use millrace_control::{ContainerPort, HostPort};

use crate::node::attach::{AttachError, Pods, mac_of};
use crate::node::chain;
use crate::node::link::{GATEWAY_MAC, HOST_MAC};

impl Pods {
    /// The link-layer address of a pod: on one segment no two have the same.
    pub(crate) fn mac_for(
        &self,
        id: &AttachmentId,
        wanted: Option<MacAddress>,
    ) -> Result<[u8; 6], AttachError> {
        let Some(mac) = wanted.map(MacAddress::octets) else { return Ok(mac_of(id)) };
        let text = chain::mac_text(mac);
        let holder = match mac {
            GATEWAY_MAC | HOST_MAC => Some("the node".to_owned()),
            _ => self.attached().values().find(|it| it.mac == text).map(|it| it.title().to_owned()),
        };
        match holder {
            Some(holder) => Err(AttachError::MacTaken { mac: text, holder }),
            None => Ok(mac),
        }
    }

    /// Which of the ports of the node that are to lead to a pod do not, and why.
    pub(crate) fn unmapped(&self, id: &AttachmentId) -> Vec<String> {
        self.publisher().lock().unmapped(&id.to_string())
    }
}

/// The ports of the node that lead to a pod because its runtime wants them.
pub(crate) fn mapped(pod: &Attached) -> Mapped {
    let port = |it: &PortMapping| ContainerPort {
        name: None,
        protocol: match it.protocol {
            Protocol::Tcp => millrace_control::Protocol::Tcp,
            Protocol::Udp => millrace_control::Protocol::Udp,
            Protocol::Sctp => millrace_control::Protocol::Sctp,
        },
        port: it.container_port.get(),
        host: Some(HostPort { address: it.host_ip, port: it.host_port }),
    };
    Mapped {
        pod: pod.pod.as_ref().and_then(|name| name.parse().ok()),
        addresses: pod.addresses.iter().map(|address| address.ip()).collect(),
        ports: pod.port_mappings.iter().map(port).collect(),
    }
}
