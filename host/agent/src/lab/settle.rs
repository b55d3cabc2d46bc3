//! Waits until what a lab says is in force on all of its nodes.

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millrace_control::source::{Manifests, Mark};
use millrace_lab::{Lab, NodeState};

use crate::api::client::Client;
use crate::api::types::HostStatus;

/// Returns when all agents of a lab have in force what its manifests say.
///
/// # Errors
/// Who is behind, and why.
pub(super) fn settle(lab: &Lab) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let manifests = Manifests::open(lab.manifests())?;
    loop {
        // somebody may apply others meanwhile
        let mark = manifests.mark()?;
        let behind = |node| behind(lab, node, &mark).map(|fault| (node, fault));
        let behind: Vec<_> = lab.state().nodes.iter().filter_map(behind).collect();
        // the others may need a moment yet
        let is_over = behind.iter().all(|(_, fault)| matches!(fault, Fault::Ended));
        if behind.is_empty() {
            return Ok(());
        }
        if is_over || Instant::now() > deadline {
            let mut text = "what the manifests say is not in force on every node:".to_owned();
            for (node, fault) in behind {
                write!(text, "\n  node {}: {}", node.name, fault.text(&node.name))?;
            }
            bail!(text);
        }
        thread::sleep(BETWEEN);
    }
}

/// Why a node is behind.
enum Fault {
    /// It has others in force, or none yet.
    Others,
    /// It does not answer.
    Silent(anyhow::Error),
    /// It will not answer.
    Ended,
}

impl Fault {
    fn text(&self, node: &str) -> String {
        match self {
            Self::Others => format!(
                "it has not taken them; `millrace lab exec node:{node} -- millrace services` and \
                 `… policies` say why"
            ),
            Self::Silent(error) => format!("its agent does not answer: {error:#}"),
            Self::Ended => format!("its agent has ended; `millrace lab restart {node}` starts one"),
        }
    }
}

/// Whether a node has anything but these manifests in force.
fn behind(lab: &Lab, node: &NodeState, mark: &Mark) -> Option<Fault> {
    // without a socket there is no agent
    let socket = node.socket.as_ref()?;
    let ask = || Client::new(socket)?.get::<HostStatus>("/v1/status").context("its status");
    match ask() {
        Ok(status) if status.manifests.as_ref() == Some(mark) => None,
        Ok(_) => Some(Fault::Others),
        Err(_) if lab.state().agent(&node.name).is_none_or(|it| !it.process.is_running()) => {
            Some(Fault::Ended)
        }
        Err(error) => Some(Fault::Silent(error)),
    }
}

/// How long filters may take to know all of it: some may have to be compiled first.
const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN: Duration = Duration::from_millis(10);
