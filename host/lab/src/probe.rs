//! Who reaches whom: every pod asks every pod, with both families, by TCP, UDP and ping.
//!
//! Owns the asking, from within the pods' networks. What an answer means for a policy or a
//! promise is for whoever reads it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::slice;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use millrace_control::PodName;

use crate::question;
pub use crate::question::{Means, Outcome};
use crate::server::Service;
use crate::state::PodState;
use crate::{Lab, LabError};

/// One question, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Who asked.
    pub from: PodName,
    /// Who was asked.
    pub to: PodName,
    /// Which address of theirs.
    pub address: IpAddr,
    /// How.
    pub by: Means,
    /// What came of it.
    pub outcome: Outcome,
}

/// Has every pod of a lab ask every pod at each of its addresses; by the names of the pods, and
/// in the order of addresses and [`Means`]. `patience` is for one answer.
///
/// # Errors
/// If a pod's network is gone.
pub fn probe(lab: &Lab, patience: Duration) -> Result<Vec<Probe>, LabError> {
    let pods = &lab.state().pods;
    let pairs = pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to)));
    let questions = pairs.flat_map(|(from, to)| {
        to.addresses.iter().flat_map(move |address| {
            // who has no address of a family cannot ask with it
            let able = from.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4());
            let means: &[Means] = if able { &MEANS } else { &[] };
            means.iter().map(move |by| (from, to, *address, *by))
        })
    });
    let waiting: VecDeque<_> = questions.enumerate().collect();
    let waiting = Mutex::new(waiting);

    // most of the time is spent waiting for answers that do not come
    let ask_some = || {
        let mut answered = Vec::new();
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some((number, (from, to, address, by))) = next else { return Ok(answered) };
            let outcome = ask(lab, from, to, address, by, patience)?;
            let (from, to) = (from.name.clone(), to.name.clone());
            answered.push((number, Probe { from, to, address, by, outcome }));
        }
    };
    let mut probes = Vec::new();
    thread::scope(|scope| {
        let askers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(ask_some)).collect();
        for asker in askers {
            let answered: Result<Vec<_>, LabError> = asker.join().expect("an asker never panics");
            probes.extend(answered?);
        }
        Ok::<(), LabError>(())
    })?;
    probes.sort_by_key(|(number, _)| *number);
    Ok(probes.into_iter().map(|(_, probe)| probe).collect())
}

fn ask(
    lab: &Lab,
    from: &PodState,
    to: &PodState,
    address: IpAddr,
    by: Means,
    patience: Duration,
) -> Result<Outcome, LabError> {
    let server = SocketAddr::new(address, Service::ECHO_PORT);
    let wanted = slice::from_ref(&to.name);
    Ok(lab.pod_namespace(&from.name)?.run(|| question::ask(server, by, wanted, patience))?)
}

const MEANS: [Means; 3] = [Means::Tcp, Means::Udp, Means::Ping];
/// Questions under way together.
const AT_ONCE: usize = 16;
