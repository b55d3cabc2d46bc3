//! Where the flow cache is pinned: a folder in a BPF file system, which is mounted if need be.

use std::fs::File;
use std::io;
use std::path::Path;

use anyhow::{Context, bail};
use clap::Args;
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

/// Where a node's flow cache is pinned unless said otherwise.
pub(crate) const DEFAULT_PINS: &str = "/sys/fs/bpf/millrace";

/// Mount the BPF file system where agents keep flows, if there is none yet.
///
/// For containers that share what they mount with their node, and end, so that agents need not be such.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace mount-bpf")]
pub(crate) struct MountArgs;

impl MountArgs {
    /// Mounts it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        prepare(Path::new(DEFAULT_PINS))
    }
}

/// Sees to it that a folder is, or can be made, in a BPF file system.
///
/// # Errors
/// If there is none, and it is not the usual one.
pub(crate) fn prepare(folder: &Path) -> anyhow::Result<()> {
    if is_bpf(folder) {
        return Ok(());
    }
    if !folder.starts_with(USUAL) {
        bail!(
            "{} is in no BPF file system: mount one with `mount -t bpf bpf DIRECTORY`, or name \
             a folder under {USUAL} with `--pins`",
            folder.display()
        );
    }
    let mounted = || {
        // agents that are started at once mount one
        let below = File::open(USUAL)?;
        below.lock()?;
        match is_bpf(folder) {
            true => Ok(()),
            false => mount("bpf", USUAL, "bpf", MountFlags::empty(), None).map_err(io::Error::from),
        }
    };
    mounted().with_context(|| format!("mounting a BPF file system at {USUAL}"))
}

/// Whether what there is of the path so far is in a BPF file system.
fn is_bpf(folder: &Path) -> bool {
    let there = folder.ancestors().find(|path| path.exists());
    let system = there.and_then(|path| statfs(path).ok());
    system.is_some_and(|system| system.f_type as u64 == BPF_FS_MAGIC)
}

const USUAL: &str = "/sys/fs/bpf";
/// `include/uapi/linux/magic.h`.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_elsewhere_is_refused_with_the_remedy() {
        let error = prepare(Path::new("/proc/nowhere/else")).unwrap_err().to_string();
        assert!(error.contains("/proc/nowhere/else") && error.contains("--pins"), "{error}");
    }
}
