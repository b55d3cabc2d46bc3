//! Another agent in the place of a node's: after it, or instead of it.
//!
//! A reader must not break this: both are in the state for as long as both may run, so that whoever
//! takes the lab down meanwhile ends both.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use millrace_netns::Namespace;

use crate::agent::failed;
use crate::attach::pid;
use crate::folder::Folder;
use crate::process::{self, Gated};
use crate::state::AgentState;
use crate::{Lab, LabError, LabName, Process, Program, Role};

/// What becomes of the agent before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Former {
    /// It is killed, before the next one starts.
    Killed,
    /// It runs until the next one has taken over from it.
    TakenOver,
}

impl Lab {
    /// Starts the agent of a node again, and returns when it answers and the former one is gone.
    ///
    /// # Errors
    /// If there is no such lab or node, somebody else is at it, or the agent does not start.
    pub fn restart(name: &LabName, node: &str, former: Former) -> Result<Self, LabError> {
        let folder = Folder::open(name)?;
        let lab = Self::open(name)?;
        let mut state = lab.state().clone();
        let unknown = || {
            let nodes = state.nodes.iter().map(|node| node.name.clone()).collect();
            LabError::Unknown { lab: name.clone(), what: format!("node `{node}`"), existing: nodes }
        };
        let place = state.nodes.iter().find(|it| it.name == node).ok_or_else(unknown)?.clone();
        let AgentState { command, environment } = place.agent.ok_or_else(unknown)?;
        let socket = place.socket.ok_or_else(unknown)?;
        let role = Role::Agent { node: node.to_owned() };
        let formers: Vec<Program> =
            state.programs.iter().filter(|program| program.role == role).cloned().collect();
        if former == Former::Killed {
            let ended = process::kill(formers.iter().map(|former| former.process));
            ended.map_err(|process| undying(name, process))?;
        }

        let log = formers.first().map(|former| former.log.clone());
        let log = log.unwrap_or_else(|| folder.path().join(format!("agent.{node}.log")));
        let failed_to_start =
            |source| LabError::Start { what: format!("the agent of node `{node}`"), source };
        let namespace = Namespace::open(&place.namespace)?;
        let gated =
            Gated::start(&namespace, &command, environment, &log).map_err(failed_to_start)?;
        let agent = Program { role: role.clone(), process: gated.process, log };
        state.programs.insert(0, agent.clone());
        state.save(folder.path())?;
        gated.open().map_err(failed_to_start)?;

        await_agent(node, &agent, &socket)?;
        await_end(&formers);
        process::end(formers.iter().map(|former| former.process))
            .map_err(|process| undying(name, process))?;
        state.programs.retain(|program| program.role != role || program.process == agent.process);
        state.save(folder.path())?;
        Ok(Self::of(state))
    }
}

/// Waits until it is this agent that answers.
fn await_agent(node: &str, agent: &Program, socket: &Path) -> Result<(), LabError> {
    let deadline = Instant::now() + PATIENCE;
    while pid(socket) != Some(agent.process.pid) {
        if !agent.process.is_running() {
            return Err(failed(node, agent, "has ended"));
        }
        if Instant::now() > deadline {
            return Err(failed(node, agent, "does not answer"));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Waits until agents that are taken over from have ended by themselves.
fn await_end(formers: &[Program]) {
    let deadline = Instant::now() + GRACE;
    while formers.iter().any(|former| former.process.is_running()) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
}

fn undying(lab: &LabName, process: Process) -> LabError {
    LabError::Undying { lab: lab.clone(), pid: process.pid }
}

/// How long an agent may take to start.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one that is taken over from may take to end.
const GRACE: Duration = Duration::from_secs(10);
