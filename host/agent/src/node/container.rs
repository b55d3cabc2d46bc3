//! An agent in a container that is not privileged: what it has to see of the node in another place.
//!
//! Owns the places under one folder, where the container has them mounted. A privileged container sees
//! them as the node does.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use millrace_netns::sysctls_at;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where it sees the node.
#[derive(Args, Debug)]
pub(crate) struct ContainerArgs {
    /// In a container: the folder in which the node's /proc/sys/net and /proc/1/ns are mounted, as
    /// sys/net, to be written, and 1/ns. A privileged container does without.
    #[arg(long, value_name = "FOLDER", env = "MILLRACE_HOST_PROC")]
    host_proc: Option<PathBuf>,
}

impl ContainerArgs {
    /// Has this process look there; before it has other threads.
    ///
    /// # Errors
    /// If what is to be there is not, or may not be used.
    pub(crate) fn look_out(&self) -> anyhow::Result<()> {
        let Some(folder) = &self.host_proc else { return Ok(()) };
        let settings = folder.join("sys");
        let known = settings.join("net/ipv4/ip_forward");
        std::fs::metadata(&known).with_context(|| {
            format!("{}: mount the node's /proc/sys/net in its folder net", settings.display())
        })?;
        sysctls_at(settings);
        let cgroups = folder.join("1/ns/cgroup");
        enter(&cgroups).with_context(|| {
            format!(
                "{}, for processes of the node itself: mount the node's /proc/1/ns in that place, \
                 and give the container CAP_SYS_ADMIN and CAP_SYS_PTRACE",
                cgroups.display()
            )
        })
    }
}

/// Knows cgroups by the names that they have there.
fn enter(namespace: &Path) -> anyhow::Result<()> {
    let namespace = File::open(namespace)?;
    let kind = Some(LinkNameSpaceType::ControlGroup);
    Ok(move_into_link_name_space(namespace.as_fd(), kind)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_mounted_is_named_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let args = ContainerArgs { host_proc: Some(folder.path().to_owned()) };
        let error = format!("{:#}", args.look_out().unwrap_err());
        assert!(error.contains("sys: mount the node's /proc/sys/net"), "{error}");
        assert!(ContainerArgs { host_proc: None }.look_out().is_ok());
    }
}
