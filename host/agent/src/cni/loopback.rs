//! The plugin `loopback`, which container runtimes call for each container before any other (C2).
//!
//! Needs no agent: a container's loopback is set up in its own namespace, and ends with it.

use std::path::Path;

use ipnetwork::IpNetwork;
use millrace_cni::{Call, Code, Failure, Network, outcome};
use millrace_netns::{Namespace, NetlinkError};
use serde_json::Value;

/// What runtimes call it.
pub(crate) const NAME: &str = "loopback";

/// Does what a runtime asks for, whichever interface it names: there is one.
pub(crate) fn carry_out(call: Call, network: &Network) -> Result<Option<Value>, Failure> {
    match call {
        Call::Add(_, namespace, _) => {
            let addresses = set_up(&namespace).map_err(|error| failed(&namespace, error))?;
            Ok(Some(outcome::looped_back(network, &namespace, &addresses)))
        }
        Call::Check(_, namespace) => match is_up(&namespace) {
            Ok(true) => Ok(None),
            Ok(false) => {
                let what = format!("`{}` in {}", outcome::LOOPBACK, namespace.display());
                Err(Failure::new(Code::Changed, what, "it is down"))
            }
            Err(error) => Err(failed(&namespace, error)),
        },
        // it is nobody else's, so nothing is left of it
        Call::Del(_) | Call::Gc | Call::Status | Call::Version => Ok(None),
    }
}

fn set_up(namespace: &Path) -> Result<Vec<IpNetwork>, NetlinkError> {
    let net = Namespace::open_path(namespace)?.netlink()?;
    net.set_up(outcome::LOOPBACK)?;
    net.addresses_of(outcome::LOOPBACK)
}

fn is_up(namespace: &Path) -> Result<bool, NetlinkError> {
    Ok(Namespace::open_path(namespace)?.netlink()?.link(outcome::LOOPBACK)?.up)
}

fn failed(namespace: &Path, error: NetlinkError) -> Failure {
    Failure::new(Code::Namespace, format!("the loopback in {}", namespace.display()), error)
}
