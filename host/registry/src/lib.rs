//! Filters' modules in registries of images, pulled by digest and pushed.
//!
//! - [`Registries`]: how registries are asked; [`Pulled`]: what one has given
//! - [`manifest`]: what an image says of its module
//! - `conversation`: requests to one registry; [`challenge`] and [`credentials`]: as whom, [`address`]: where
//!   nobody goes
//! - [`RegistryError`]: why there is no answer, or a wrong one
//!
//! A reader must not break this: nothing counts that a registry says, but what has the digest that was
//! asked for. Credentials go to the registry that they are for and to where that one has tokens from,
//! and over TLS, unless its operator has said that it goes without.
#![forbid(unsafe_code)]

pub mod address;
pub mod challenge;
mod conversation;
pub mod credentials;
mod error;
pub mod manifest;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use millrace_abi::limits;
use millrace_control::filter::{ModuleBytes, ModuleDigest};
use millrace_control::image::{ImageName, ManifestDigest, PinnedImage};
use tokio::runtime::Builder;
use tokio::time::timeout;

use conversation::{Conversation, Rights};
pub use error::RegistryError;

/// How registries are asked.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// A file with credentials, in the form of Docker's `config.json`; it is read whenever a registry asks
    /// for some.
    pub credentials: Option<PathBuf>,
    /// A file with certificates (PEM) of authorities that vouch for registries, beside the system's.
    pub authorities: Option<PathBuf>,
    /// Those that are asked over plain HTTP, as images have them in their names. This machine's own, at
    /// addresses of the loopback, always are.
    pub plain: Vec<String>,
}

/// An image as a registry has given it.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Its manifest.
    pub manifest: Vec<u8>,
    /// The module that it names.
    pub module: ModuleBytes,
}

impl Registries {
    /// Has an image from its registry. This takes time, and no more than some minutes.
    ///
    /// # Errors
    /// If it is not to be had, or is not what its digest says.
    pub fn pull(&self, image: &PinnedImage) -> Result<Pulled, RegistryError> {
        wait(async {
            let mut registry = Conversation::open(self, &image.name, Rights::Pull)?;
            let manifest = registry.manifest(&image.digest.to_string()).await?;
            if ManifestDigest::of(&manifest) != image.digest {
                let found = ManifestDigest::of(&manifest).to_string();
                return Err(registry.another(&image.digest.to_string(), found));
            }
            let layer = manifest::module(&manifest)?;
            let bytes = registry.blob(&layer.digest.to_string(), layer.bytes).await?;
            let module = ModuleBytes::from(bytes);
            if module.digest() != layer.digest {
                return Err(
                    registry.another(&layer.digest.to_string(), module.digest().to_string())
                );
            }
            Ok(Pulled { manifest, module })
        })
    }

    /// Has a registry keep a module, which people are to know by this title; says what to ask for then.
    ///
    /// # Errors
    /// If the module is larger than hosts take, or the registry does not take it.
    pub fn push(
        &self,
        name: &ImageName,
        title: &str,
        module: Vec<u8>,
    ) -> Result<PinnedImage, RegistryError> {
        if module.len() > limits::MAX_MODULE {
            return Err(RegistryError::TooLarge {
                what: title.to_owned(),
                most: limits::MAX_MODULE,
            });
        }
        wait(async {
            let mut registry = Conversation::open(self, name, Rights::Push)?;
            let digest = ModuleDigest::of(&module);
            let manifest = manifest::write(title, digest, module.len());
            registry.keep_blob(&digest.to_string(), module).await?;
            let config = manifest::CONFIG.to_vec();
            registry.keep_blob(&ModuleDigest::of(&config).to_string(), config).await?;
            let digest = ManifestDigest::of(&manifest);
            let tag = name.tag.clone().unwrap_or_else(|| digest.to_string());
            registry.keep_manifest(&tag, manifest).await?;
            Ok(PinnedImage { name: name.clone(), digest })
        })
    }

    /// Whether a registry is asked over plain HTTP.
    fn are_plain(&self, registry: &str) -> bool {
        let host = match registry.strip_prefix('[').and_then(|it| it.split_once(']')) {
            Some((host, _)) => host,
            None => registry.split_once(':').map_or(registry, |(host, _)| host),
        };
        let is_own = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        is_own || self.plain.iter().any(|it| it == registry)
    }
}

/// Waits for something here, and not for ever.
fn wait<T>(what: impl Future<Output = Result<T, RegistryError>>) -> Result<T, RegistryError> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(RegistryError::Runtime)?;
    let outcome = runtime.block_on(async { timeout(ALTOGETHER, what).await });
    // a look-up of a name that hangs is nobody's any more
    runtime.shutdown_background();
    outcome.unwrap_or(Err(RegistryError::Slow { seconds: ALTOGETHER.as_secs() }))
}

/// How long all that an image takes may take.
const ALTOGETHER: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_of_this_machine_and_those_that_are_named_are_asked_without_tls() {
        let registries =
            Registries { plain: vec!["registry.example:5000".to_owned()], ..<_>::default() };
        for (registry, is_plain) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.1.2.3", true),
            ("[::1]:5000", true),
            ("[fd00::1]:5000", false),
            ("registry.example:5000", true),
            ("registry.example", false),
            ("registry.example:5001", false),
            ("127.0.0.1.example", false),
            ("localhost.example", false),
        ] {
            assert_eq!(registries.are_plain(registry), is_plain, "{registry}");
        }
    }
}
