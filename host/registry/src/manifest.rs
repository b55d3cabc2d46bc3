//! What an image says of its module: a manifest, as the OCI's image specification has it, one of whose
//! layers is the module as it is.
//!
//! Those are read that the usual tools write, whatever their configuration says; those are written that
//! have none.

use millrace_abi::limits;
use millrace_control::filter::ModuleDigest;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use crate::error::printable;

/// A module as a manifest names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleLayer {
    /// The digest of the module.
    pub digest: ModuleDigest,
    /// Its length.
    pub bytes: usize,
}

/// Why an image has no module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no manifest.
    #[error("its manifest cannot be read: {0}")]
    Unreadable(String),
    /// It names other manifests.
    #[error(
        "it is an index of several images: write the digest of the one among them that has the module"
    )]
    Index,
    /// It has other things.
    #[error(
        "it has no WebAssembly module: none of its layers is of the type `{MODULE}`, but there is {0}; \
         `millrace filter push` makes one that is"
    )]
    NoModule(String),
    /// It is not clear which one is meant.
    #[error("{0} of its layers are WebAssembly modules, and a filter has one")]
    Several(usize),
    /// No host takes that.
    #[error("its module has {0} bytes, and {most} are the most", most = limits::MAX_MODULE)]
    TooLarge(u64),
    /// It cannot be told whether it is the right one.
    #[error("its module has the digest `{0}`, and SHA-256 is the only kind that is known")]
    Digest(String),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
}

#[derive(Serialize, Deserialize)]
struct Annotations {
    /// What tools that know nothing of modules call the file that they make of it.
    #[serde(rename = "org.opencontainers.image.title", default)]
    title: String,
}

/// What tells an index from a manifest.
#[derive(Deserialize)]
struct Index {
    #[serde(rename = "manifests")]
    _manifests: Vec<IgnoredAny>,
}

/// The module that a manifest names.
///
/// # Errors
/// If it names none, or not one that a host would take.
pub fn module(manifest: &[u8]) -> Result<ModuleLayer, ManifestError> {
    let Manifest { layers, .. } = serde_json::from_slice(manifest).map_err(|error| {
        match serde_json::from_slice::<Index>(manifest) {
            Ok(_) => ManifestError::Index,
            Err(_) => ManifestError::Unreadable(printable(&error.to_string())),
        }
    })?;
    let is_module = |layer: &&Descriptor| MODULES.contains(&&*layer.media_type);
    let modules: Vec<_> = layers.iter().filter(is_module).collect();
    let layer = match modules[..] {
        [layer] => layer,
        [] => {
            let types = layers.iter().take(MOST_SAID);
            let types: Vec<_> =
                types.map(|it| format!("`{}`", printable(&it.media_type))).collect();
            let types = if types.is_empty() { "none".to_owned() } else { types.join(", ") };
            return Err(ManifestError::NoModule(types));
        }
        _ => return Err(ManifestError::Several(modules.len())),
    };
    let digest =
        layer.digest.parse().map_err(|_| ManifestError::Digest(printable(&layer.digest)))?;
    let bytes = usize::try_from(layer.size).ok().filter(|size| *size <= limits::MAX_MODULE);
    Ok(ModuleLayer { digest, bytes: bytes.ok_or(ManifestError::TooLarge(layer.size))? })
}

/// The manifest of a module with a title: the same one gives the same.
pub(crate) fn write(title: &str, digest: ModuleDigest, bytes: usize) -> Vec<u8> {
    let descriptor = |media_type: &str, digest: ModuleDigest, bytes: usize| Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_string(),
        size: bytes as u64,
        annotations: None,
    };
    let annotations = Some(Annotations { title: title.to_owned() });
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.to_owned(),
        artifact_type: ARTIFACT.to_owned(),
        config: descriptor(EMPTY, ModuleDigest::of(CONFIG), CONFIG.len()),
        layers: vec![Descriptor { annotations, ..descriptor(MODULE, digest, bytes) }],
    };
    serde_json::to_vec(&manifest).expect("texts and numbers are JSON")
}

/// The type of a manifest, and of what names several.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The configuration of images that need none.
pub(crate) const CONFIG: &[u8] = b"{}";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// What image it is.
const ARTIFACT: &str = "application/vnd.millrace.filter.v1";
/// The type of a module, and the one that it had before there was this.
const MODULE: &str = "application/wasm";
const MODULES: [&str; 2] = [MODULE, "application/vnd.wasm.content.layer.v1+wasm"];
/// How much is said of what is wrong.
const MOST_SAID: usize = 3;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_layers(layers: &str) -> String {
        format!(
            r#"{{"schemaVersion": 2, "mediaType": "{MANIFEST}", "config": {{"mediaType":
            "application/vnd.wasm.config.v0+json", "digest": "sha256:00", "size": 2}},
            "layers": [{layers}], "annotations": {{"a": "b"}}}}"#
        )
    }

    fn layer(media_type: &str, digest: &str, size: u64) -> String {
        format!(r#"{{"mediaType": "{media_type}", "digest": "{digest}", "size": {size}}}"#)
    }

    #[test]
    fn what_is_written_reads_back_and_is_always_the_same() {
        let digest = ModuleDigest::of(b"a");
        let manifest = write("a.wasm", digest, 7);
        assert_eq!(module(&manifest), Ok(ModuleLayer { digest, bytes: 7 }));
        assert_eq!(write("a.wasm", digest, 7), manifest);
    }

    #[test]
    fn the_one_layer_is_found_that_is_a_module() {
        let digest = ModuleDigest::of(b"a");
        for media_type in MODULES {
            let readme = layer("text/markdown", "sha256:0", 3);
            let layers = format!("{readme}, {}", layer(media_type, &digest.to_string(), 9));
            let found = module(with_layers(&layers).as_bytes());
            assert_eq!(found, Ok(ModuleLayer { digest, bytes: 9 }));
        }
    }

    #[test]
    fn an_image_without_a_module_that_can_be_taken_is_told_apart() {
        let digest = ModuleDigest::of(b"a").to_string();
        let right = layer(MODULE, &digest, 9);
        let gzip = layer("application/vnd.oci.image.layer.v1.tar+gzip", &digest, 9);
        let most = limits::MAX_MODULE as u64;
        for (manifest, error) in [
            (with_layers(""), "but there is none"),
            (with_layers(&gzip), "but there is `application/vnd.oci.image.layer.v1.tar+gzip`"),
            (with_layers(&format!("{right}, {right}")), "2 of its layers are"),
            (with_layers(&layer(MODULE, "sha512:00", 9)), "SHA-256 is the only kind"),
            (with_layers(&layer(MODULE, &digest, most + 1)), "16777217 bytes, and 16777216"),
            (r#"{"schemaVersion": 2, "manifests": []}"#.to_owned(), "an index of several images"),
            ("{}".to_owned(), "cannot be read: missing field"),
            ("\0asm".to_owned(), "cannot be read: expected value"),
        ] {
            let found = module(manifest.as_bytes()).unwrap_err().to_string();
            assert!(found.contains(error), "{manifest}: {found}");
        }
        assert!(module(with_layers(&layer(MODULE, &digest, most)).as_bytes()).is_ok());
        // what is said of them is short, whatever they say
        let long = "x\\n".repeat(10_000);
        let version =
            with_layers(&right).replace(": 2, \"media", &format!(": \"{long}\", \"media"));
        for long in
            [with_layers(&layer(&long, &digest, 9)), with_layers(&layer(MODULE, &long, 9)), version]
        {
            let found = module(long.as_bytes()).unwrap_err().to_string();
            assert!(found.len() < 400 && !found.contains(char::is_control), "{found}");
        }
    }

    proptest! {
        #[test]
        fn no_manifest_is_too_strange_to_be_refused(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(module(&bytes).is_err());
        }
    }
}
