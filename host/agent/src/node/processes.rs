//! The processes of the node itself: how they reach ports of its own addresses that are Services' or
//! pods' (S11, S27).
//!
//! Owns whose they are. Without this, all else works: it is complained of, once.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use anyhow::Context;
use millrace_dataplane::control::{Cgroup, Dataplane};

/// They, and what they know.
#[derive(Default)]
pub(crate) struct Processes {
    known: Option<BTreeMap<IpAddr, IpAddr>>,
}

impl Processes {
    /// Has them come out at these addresses when they mean the node's own, each of which is the key
    /// of one.
    pub(crate) fn mean(&mut self, plane: &Dataplane, stand_ins: BTreeMap<IpAddr, IpAddr>) {
        if self.known.is_none()
            && let Err(error) = attend(plane)
        {
            tracing::warn!(
                error = format!("{error:#}"),
                "processes of the node itself do not reach Services by its own addresses"
            );
        }
        if self.known.as_ref() == Some(&stand_ins) {
            return;
        }
        match plane.stand_in(stand_ins.clone()) {
            Ok(()) => self.known = Some(stand_ins),
            Err(error) => {
                tracing::error!(%error, "the node's own addresses are not known as they are");
                self.known = Some(BTreeMap::new());
            }
        }
    }
}

fn attend(plane: &Dataplane) -> anyhow::Result<()> {
    let cgroup = Cgroup::root().context("cgroups of version 2 cannot be reached")?;
    plane.attend(&cgroup)?;
    let namespace = fs::metadata("/proc/self/ns/cgroup").map(|it| it.ino());
    if namespace.is_ok_and(|it| it != INITIAL) {
        tracing::info!(
            "processes outside of this cgroup namespace do not reach Services by the node's own \
             addresses: run the agent in the host's, as privileged containers are, or with --host-proc"
        );
    }
    Ok(())
}

/// The number of the machine's first cgroup namespace (`include/linux/proc_ns.h`).
const INITIAL: u64 = 0xefff_fffb;
