//! What container runtimes need of this node: the plugins that they call, and the file that has them
//! called.
//!
//! - `plugins`: the programs; `conflist`: the file
//! - `others`: who else does on this node what the agent does
//!
//! Owns the order: whoever finds the file may call the plugins at once, so it comes last, when pods
//! can be attached.

mod conflist;
mod others;
pub(crate) mod plugins;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::node::state::{Kept, NodeState, StateError};
use conflist::Conflist;
use plugins::Plugins;

/// What is installed for container runtimes.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CniArgs {
    /// Write this file once pods can be attached, as /etc/cni/net.d/05-millrace.conflist: it has
    /// container runtimes call `millrace-cni`. They take the first file of its folder by name.
    #[arg(long, value_name = "FILE")]
    conflist: Option<PathBuf>,

    /// Put the plugin `millrace-cni` into this folder before, as /opt/cni/bin, from beside the
    /// agent's own program; and `loopback`, which every container needs, if nobody else has.
    #[arg(long, value_name = "FOLDER", requires = "conflist")]
    cni_bin_dir: Option<PathBuf>,
}

impl CniArgs {
    /// Remembers what is to be installed, for whoever removes it.
    pub(crate) fn remember(&self, state: &mut NodeState) -> Result<(), StateError> {
        state.change(|kept: &mut Kept| {
            kept.conflist.clone_from(&self.conflist);
            kept.plugins.clone_from(&self.cni_bin_dir);
        })
    }

    /// Has runtimes call an agent behind `socket`, which can attach pods from now on.
    pub(crate) fn install(&self, socket: &Path) -> anyhow::Result<()> {
        if let Some(folder) = &self.cni_bin_dir {
            Plugins::at(folder).install()?;
        }
        if let Some(path) = &self.conflist {
            Conflist::at(path).write(socket)?;
        }
        for other in self.others() {
            tracing::warn!("{other}");
        }
        Ok(())
    }

    /// Who else does on this node what the agent does: a sentence for each, with what to do.
    pub(crate) fn others(&self) -> Vec<String> {
        let mut others = Vec::new();
        others.extend(others::kube_proxy());
        others.extend(self.conflist.iter().flat_map(|path| others::conflists(path)));
        others
    }
}
