//! A registry for a test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use millrace_control::filter::ModuleDigest;
use millrace_control::image::{ImageName, ManifestDigest, PinnedImage};
use millrace_registry::Registries;

use crate::wire;

/// A registry that runs. It is ended when this is dropped.
pub(crate) struct Bed {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
}

impl Bed {
    /// One that everybody may use.
    pub(crate) fn open() -> Self {
        Self::with("")
    }

    /// One with more in its configuration, where `FOLDER` is the one that it has.
    pub(crate) fn with(more: &str) -> Self {
        Self::at("127.0.0.1:0", more, Command::new(PROGRAM))
    }

    /// One that listens elsewhere, started otherwise. Lines of `http` come first.
    pub(crate) fn at(address: &str, more: &str, command: Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::again(folder, address, more, command)
    }

    /// One with what is in this folder.
    pub(crate) fn again(
        folder: tempfile::TempDir,
        address: &str,
        more: &str,
        mut command: Command,
    ) -> Self {
        let place = folder.path().display().to_string();
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: FOLDER/storage}}}}\n\
             http:\n  addr: {address}\n{more}\n"
        );
        let path = folder.path().join("config.yml");
        fs::write(&path, config.replace("FOLDER", &place)).expect("the folder is there");
        let mut child = command
            .arg("serve")
            .arg(&path)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker-registry is there: `make setup` installs it");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            let length = log.read_line(&mut line).expect("it is text");
            assert!(length > 0, "it ends without listening: {said}");
            said.push_str(&line);
            let listens = line.split("listening on ").nth(1);
            let address = listens.and_then(|it| it.split(['"', ',']).next());
            if let Some(address) = address.and_then(|it| it.parse().ok()) {
                break address;
            }
        };
        // who is not listened to waits
        thread::spawn(move || log.lines().map_while(Result::ok).for_each(drop));
        Self { child, address, folder }
    }

    /// A name in it.
    pub(crate) fn name(&self, rest: &str) -> ImageName {
        format!("{}/{rest}", self.address).parse().expect("it is a name")
    }

    /// An image of it, by the digest of its manifest.
    pub(crate) fn image(&self, rest: &str, manifest: &[u8]) -> PinnedImage {
        PinnedImage { name: self.name(rest), digest: ManifestDigest::of(manifest) }
    }

    /// Has it keep a manifest, whatever it says, of blobs that are there.
    pub(crate) fn keep(&self, repository: &str, kind: &str, manifest: &str) -> PinnedImage {
        let image = self.image(repository, manifest.as_bytes());
        let path = format!("/v2/{repository}/manifests/{}", image.digest);
        assert_eq!(wire::put(self.address, &path, kind, manifest.as_bytes()), 201, "{manifest}");
        image
    }

    /// Where it keeps what has this digest.
    pub(crate) fn stored(&self, digest: &str) -> PathBuf {
        let digits = digest.strip_prefix("sha256:").expect("it is one");
        let blobs = "storage/docker/registry/v2/blobs/sha256";
        self.folder.path().join(blobs).join(&digits[..2]).join(digits).join("data")
    }

    /// Ends it, and leaves what it has.
    pub(crate) fn end(mut self) -> Self {
        self.kill();
        self
    }

    fn kill(&mut self) {
        // one that has ended is waited for all the same
        let _ = self.child.kill();
        self.child.wait().expect("it was started here");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A file of credentials with one entry.
pub(crate) fn credentials(file: &Path, registry: &str, password: &str) {
    let text = format!(
        r#"{{"auths": {{"{registry}": {{"username": "{USER}", "password": "{password}"}}}}}}"#
    );
    fs::write(file, text).expect("the folder is there");
}

/// Registries that are asked with the credentials of a file.
pub(crate) fn knowing(file: &Path) -> Registries {
    Registries { credentials: Some(file.to_owned()), ..Registries::default() }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    ModuleDigest::of(bytes).to_string()
}

/// Nothing here looks into a module.
pub(crate) const MODULE: &[u8] = b"\0asm\x01\0\0\0";
/// Debian's registry.
pub(crate) const PROGRAM: &str = "docker-registry";
pub(crate) const USER: &str = "mill";
pub(crate) const PASSWORD: &str = "open sesame";
