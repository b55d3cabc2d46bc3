//! Keeps compiled code on disk, so that a known module starts in milliseconds.
//!
//! A file is named by the module's digest and by the engine's settings, and
//! begins with the digest of its own contents. Compiled code is trusted when
//! it is loaded, so the folder must belong to this user and be closed to others;
//! what does not check out is compiled again, never loaded.
#![allow(unsafe_code)]

use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use wasmtime::Engine;

use crate::module::ModuleDigest;

/// A folder of compiled code.
#[derive(Clone, Debug)]
pub struct CodeCache {
    folder: PathBuf,
}

impl CodeCache {
    /// Opens the folder, making it if it is not there.
    ///
    /// # Errors
    /// If it cannot be made, belongs to somebody else, or others may write to it.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let metadata = fs::metadata(folder)?;
        let ours = metadata.uid() == rustix::process::geteuid().as_raw();
        if !ours || metadata.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "the code cache {} must belong to this user and be writable by nobody else \
                     (`chown` it, `chmod 700` it, or name another folder)",
                    folder.display()
                ),
            ));
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The compiled module, if it is there and intact.
    pub(crate) fn load(&self, engine: &Engine, digest: &ModuleDigest) -> Option<wasmtime::Module> {
        let path = self.path(engine, digest);
        let file = fs::read(&path).ok()?;
        let (claimed, code) = file.split_at_checked(DIGEST_LEN)?;
        if Sha256::digest(code).as_slice() != claimed {
            tracing::warn!(path = %path.display(), "a cached module is damaged; compiling it again");
            return None;
        }
        // SAFETY: holds because the bytes were written by `store` from `Module::serialize` of an
        // engine with the same settings (the path has their hash): nobody else may write to the
        // folder (checked in `open`), and the digest shows that they are whole.
        unsafe { wasmtime::Module::deserialize(engine, code) }
            .inspect_err(|error| tracing::warn!(%error, "a cached module does not load"))
            .ok()
    }

    /// Keeps a compiled module. Failure costs time later, and nothing else.
    pub(crate) fn store(&self, engine: &Engine, digest: &ModuleDigest, module: &wasmtime::Module) {
        let path = self.path(engine, digest);
        let kept = module.serialize().map_err(io::Error::other).and_then(|code| {
            // two threads may keep the same module at once
            let number = PARTS.fetch_add(1, Ordering::Relaxed);
            let partial = path.with_extension(format!("{}-{number}.part", std::process::id()));
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&partial)?;
            file.write_all(&Sha256::digest(&code))?;
            file.write_all(&code)?;
            fs::rename(&partial, &path)
        });
        if let Err(error) = kept {
            tracing::warn!(path = %path.display(), %error, "a compiled module could not be kept");
        }
    }

    fn path(&self, engine: &Engine, digest: &ModuleDigest) -> PathBuf {
        let mut settings = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        self.folder.join(format!("{digest}-{:016x}.cwasm", settings.finish()))
    }
}

const DIGEST_LEN: usize = 32;

/// Files begun by this process.
static PARTS: AtomicU64 = AtomicU64::new(0);
