//! Whose network a cluster has: millrace, or the reference plugins of CNI and kube-proxy, each with
//! a tunnel between nodes and without.

use std::path::Path;

use anyhow::{Context, Result};

use crate::nodes::peer::Between;

/// Who carries packets in a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Peer {
    /// An agent on each node, as `deploy` installs it.
    Millrace(Between),
    /// A bridge on each node and kube-proxy with nftables; routes, or tunnels as Flannel makes them.
    Reference(Between),
}

impl Peer {
    /// Who is measured beside each other.
    pub const fn pair(between: Between) -> [Self; 2] {
        [Self::Millrace(between), Self::Reference(between)]
    }

    /// What results call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Millrace(Between::Native) => "millrace, native",
            Self::Millrace(Between::Vxlan) => "millrace, VXLAN",
            Self::Reference(Between::Native) => "bridge plugin + kube-proxy nftables",
            Self::Reference(Between::Vxlan) => {
                "Flannel's VXLAN + bridge plugin + kube-proxy nftables"
            }
        }
    }

    /// The program that it has on each node.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Millrace(_) => "millrace",
            Self::Reference(_) => "kube-proxy",
        }
    }

    /// What its cluster is called.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Millrace(_) => "millrace",
            Self::Reference(_) => "reference",
        }
    }

    /// What `up` is told.
    pub(super) fn network(self, image: &Path) -> Result<Vec<&str>> {
        let image = image.to_str().context("the path of the image is no UTF-8")?;
        Ok(match self {
            Self::Millrace(Between::Native) => vec![image, "--tunnel=auto"],
            Self::Millrace(Between::Vxlan) => vec![image],
            Self::Reference(Between::Native) => vec!["bridge"],
            Self::Reference(Between::Vxlan) => vec!["flannel"],
        })
    }
}
