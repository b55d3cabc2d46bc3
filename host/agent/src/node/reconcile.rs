//! Pods whose links go, or are no ports, though nobody has asked for that: found now and then.
//!
//! A pod's link goes with its network namespace. Whoever deletes that and does not detach the pod has
//! been killed, or will still ask: to detach twice is no error.

use std::collections::BTreeSet;

use millrace_cni::AttachmentId;
use millrace_dataplane::control::Dataplane;

use crate::node::attach::{AttachError, Pods, port_of};

/// Pods are not as they were attached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodsError {
    /// One of several is not reached.
    #[error("pod {pod} has its addresses, and no port: {cause}")]
    NoPort {
        /// The pod.
        pod: String,
        /// Why not.
        cause: Box<AttachError>,
    },
    /// Nothing is known, or can be changed.
    #[error(transparent)]
    Other(#[from] AttachError),
}

impl Pods {
    /// Makes ports of those that are none, and detaches those whose links are gone.
    ///
    /// # Errors
    /// The first that is no port still; all others are.
    pub(crate) fn reconcile(&mut self, plane: &Dataplane) -> Result<(), PodsError> {
        let gone = self.gone()?;
        for id in &gone {
            let pod = self.find(id)?.title().to_owned();
            self.detach_now(plane, id)?;
            tracing::info!(pod, "detached: its network namespace is gone");
        }
        let (opened, outcome) = self.open_closed(plane);
        if !opened.is_empty() {
            let published = self.publish(plane).inspect_err(|_| {
                // the chain knows nothing of them: they are none still
                opened.iter().for_each(|port| drop(plane.remove_port(port)));
            });
            published.map_err(AttachError::from)?;
        }
        outcome
    }

    /// Makes ports of those that are none; says which, and why one of them is none still.
    pub(crate) fn open_closed(&self, plane: &Dataplane) -> (Vec<String>, Result<(), PodsError>) {
        let there = plane.numbers();
        let (mut opened, mut outcome) = (Vec::new(), Ok(()));
        for attached in self.attached().values().filter(|it| !there.contains_key(&it.port)) {
            let added = port_of(attached).and_then(|port| Ok(plane.add_port(port)?));
            match added {
                Ok(()) => opened.push(attached.port.clone()),
                Err(cause) => {
                    let pod = attached.title().to_owned();
                    outcome = outcome.and(Err(PodsError::NoPort { pod, cause: cause.into() }));
                }
            }
        }
        (opened, outcome)
    }

    /// Those whose links are gone.
    fn gone(&self) -> Result<Vec<AttachmentId>, AttachError> {
        let links = self.node().netlink()?.links()?;
        let links: BTreeSet<&str> = links.iter().map(|link| &*link.name).collect();
        let attached = self.attached().iter();
        let gone = attached.filter(|(_, it)| !links.contains(&*it.port));
        Ok(gone.map(|(id, _)| id.clone()).collect())
    }
}
