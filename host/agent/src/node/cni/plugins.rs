//! The programs that container runtimes call.
//!
//! Owns `millrace-cni` in the folder of plugins, and `loopback` where nobody else has put one: a link
//! to the former, which knows by which name it is called. A program is replaced as a whole, so that
//! one that runs at that moment ends as it began.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::{env, io};

use anyhow::{Context, bail};

use crate::replace::{PROGRAM, replace};

/// The folder of plugins.
#[derive(Debug)]
pub(crate) struct Plugins<'a> {
    folder: &'a Path,
}

impl<'a> Plugins<'a> {
    /// Those in a folder.
    pub(crate) fn at(folder: &'a Path) -> Self {
        Self { folder }
    }

    /// Installs the plugins that belong to this program, from beside it.
    pub(crate) fn install(&self) -> anyhow::Result<()> {
        let own = env::current_exe().context("the agent's own program")?.with_file_name(PLUGIN);
        self.install_from(&own)
    }

    fn install_from(&self, plugin: &Path) -> anyhow::Result<()> {
        if !plugin.is_file() {
            bail!(
                "the CNI plugin is not at {}: put it there, or leave out `--cni-bin-dir` and install \
                 it yourself",
                plugin.display()
            );
        }
        self.copy(plugin)
            .with_context(|| format!("the CNI plugin in {}", self.folder.display()))?;
        self.link_loopback().with_context(|| format!("{LOOPBACK} in {}", self.folder.display()))
    }

    /// What is installed there of it, in the order in which it can be removed.
    pub(crate) fn installed(&self) -> impl Iterator<Item = PathBuf> {
        let loopback = self.folder.join(LOOPBACK);
        let is_own = fs::read_link(&loopback).is_ok_and(|target| target == Path::new(PLUGIN));
        is_own.then_some(loopback).into_iter().chain([self.folder.join(PLUGIN)])
    }

    fn copy(&self, plugin: &Path) -> io::Result<()> {
        let there = self.folder.join(PLUGIN);
        let program = fs::read(plugin)?;
        if fs::read(&there).is_ok_and(|there| there == program) {
            return Ok(());
        }
        fs::create_dir_all(self.folder)?;
        replace(&there, &program, PROGRAM)
    }

    fn link_loopback(&self) -> io::Result<()> {
        let there = self.folder.join(LOOPBACK);
        if there.exists() {
            return Ok(());
        }
        // what leads nowhere is replaced
        let next = self.folder.join(format!(".{LOOPBACK}.next"));
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink(PLUGIN, &next)?,
        }
        fs::rename(next, there)
    }
}

pub(super) const PLUGIN: &str = "millrace-cni";
const LOOPBACK: &str = "loopback";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let files = fs::read_dir(folder).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn c2_the_plugin_is_replaced_as_a_whole_and_answers_to_loopback() {
        let folder = tempfile::tempdir().unwrap();
        let (own, bin) = (folder.path().join("own"), folder.path().join("opt/cni/bin"));
        let plugins = Plugins::at(&bin);
        for program in ["one", "one", "another"] {
            fs::write(&own, program).unwrap();
            plugins.install_from(&own).unwrap();
            assert_eq!(names(&bin), [LOOPBACK, PLUGIN]);
            for name in [LOOPBACK, PLUGIN] {
                assert_eq!(fs::read_to_string(bin.join(name)).unwrap(), program);
            }
            assert_eq!(fs::metadata(bin.join(PLUGIN)).unwrap().permissions().mode() & 0o777, 0o755);
        }
        let installed: Vec<_> = plugins.installed().collect();
        assert_eq!(installed, [bin.join(LOOPBACK), bin.join(PLUGIN)]);
    }

    #[test]
    fn c2_a_loopback_of_others_stays_theirs_and_one_that_leads_nowhere_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (own, bin) = (folder.path().join("own"), folder.path());
        fs::write(&own, "own").unwrap();
        let loopback = bin.join(LOOPBACK);
        symlink("nowhere", &loopback).unwrap();
        let plugins = Plugins::at(bin);
        plugins.install_from(&own).unwrap();
        assert_eq!(fs::read_to_string(&loopback).unwrap(), "own");

        fs::remove_file(&loopback).unwrap();
        fs::write(&loopback, "theirs").unwrap();
        plugins.install_from(&own).unwrap();
        assert_eq!(fs::read_to_string(&loopback).unwrap(), "theirs");
        assert_eq!(plugins.installed().collect::<Vec<_>>(), [bin.join(PLUGIN)]);
    }

    #[test]
    fn a_plugin_that_is_not_beside_the_agent_is_missed_by_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("absent");
        let error = Plugins::at(folder.path()).install_from(&own).unwrap_err().to_string();
        assert!(error.contains("absent") && error.contains("--cni-bin-dir"), "{error}");
    }
}
