//! The module that a command is about, checked and compiled as a host would.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use millrace_abi::limits;
use millrace_sandbox::{Module, Sandbox, Settings};

use crate::api::types::Module as Delivery;
use crate::config::ModuleSource;

/// A module, with where it came from.
pub(super) struct Subject {
    /// What people call it: a path, or a built-in filter's name.
    pub(super) title: String,
    /// The module.
    pub(super) bytes: Vec<u8>,
    /// The same, compiled.
    pub(super) module: Arc<Module>,
    /// What the module was compiled in.
    pub(super) sandbox: Arc<Sandbox>,
}

impl Subject {
    /// Reads, checks and compiles a module.
    ///
    /// # Errors
    /// If it cannot be read, or a host would refuse it.
    pub(super) fn read(source: &ModuleSource) -> anyhow::Result<Self> {
        let title = source.to_string();
        let bytes = match source.read()? {
            Delivery::Wasm(wasm) => wasm.0,
            Delivery::BuiltIn(name) => {
                let found = millrace_builtin::find(&name);
                found.expect("`ModuleSource` names only filters that are there").bytes.to_vec()
            }
        };
        Self::new(title, bytes)
    }

    /// Reads the module at `path`, whatever it is called.
    ///
    /// # Errors
    /// As [`Subject::read`].
    pub(super) fn at(path: &Path) -> anyhow::Result<Self> {
        Self::read(&ModuleSource::File(path.to_owned()))
    }

    fn new(title: String, bytes: Vec<u8>) -> anyhow::Result<Self> {
        let sandbox = Sandbox::new(&Settings::default())
            .map_err(|error| anyhow!("the WebAssembly engine does not start: {error:#}"))?;
        let module = sandbox
            .load(&bytes, limits::DEFAULT_MEMORY)
            .with_context(|| format!("{title} is refused"))?;
        Ok(Self { title, bytes, module, sandbox: Arc::new(sandbox) })
    }

    /// The filter's name and version.
    pub(super) fn label(&self) -> String {
        let manifest = self.module.manifest();
        format!("{} {}", manifest.name, manifest.version).trim_end().to_owned()
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Subject").field(&self.title).finish()
    }
}

/// How long a call of a hook may take: a machine that compiles beside may hold up any filter, and
/// one that never returns is found all the same.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
