//! What a registry has, and what it has not.

use std::fs;
use std::process::Command;

use millrace_abi::limits;
use millrace_control::image::PinnedImage;
use millrace_registry::{Registries, RegistryError};

use crate::bed::{Bed, MODULE, PROGRAM, digest};

#[test]
fn a_module_that_is_pushed_is_pulled_by_its_digest_and_pushing_it_again_changes_nothing() {
    let bed = Bed::open();
    let registries = Registries::default();
    let name = bed.name("team/filter:1.2");
    let image = registries.push(&name, "filter.wasm", MODULE.to_vec()).expect("it is taken");
    assert_eq!(image.name, name);
    let pulled = registries.pull(&image).expect("it is there");
    assert_eq!(pulled.module.bytes(), MODULE);
    let again = registries.push(&name, "filter.wasm", MODULE.to_vec()).expect("it is taken");
    assert_eq!(again, image);

    // a tag may go on to another one, and the digest stays
    let other =
        registries.push(&name, "filter.wasm", b"\0asm other".to_vec()).expect("it is taken");
    assert_ne!(other.digest, image.digest);
    assert_eq!(registries.pull(&image).expect("it is there").module.bytes(), MODULE);
    assert_eq!(registries.pull(&other).expect("it is there").module.bytes(), b"\0asm other");
    // without a tag, too
    let bare = registries.push(&bed.name("team/bare"), "filter.wasm", MODULE.to_vec());
    assert_eq!(bare.expect("it is taken").digest, image.digest);
}

#[test]
fn the_largest_module_is_taken_and_none_that_is_larger() {
    let bed = Bed::open();
    let registries = Registries::default();
    let most = vec![7; limits::MAX_MODULE];
    let image = registries.push(&bed.name("a:1"), "a", most.clone()).expect("it is taken");
    assert_eq!(registries.pull(&image).expect("it is there").module.bytes(), most);
    let more = registries.push(&bed.name("a:1"), "a", [most, vec![7]].concat());
    assert!(matches!(more, Err(RegistryError::TooLarge { .. })), "{more:?}");
}

#[test]
fn an_image_that_is_not_there_or_not_a_filter_is_refused_with_what_it_is() {
    let bed = Bed::open();
    let registries = Registries::default();
    let right = registries.push(&bed.name("a:1"), "a", MODULE.to_vec()).expect("it is taken");
    let says = |image: &PinnedImage, what: &str| {
        let error = registries.pull(image).expect_err(what).to_string();
        assert!(error.contains(what), "{what}: {error}");
        error
    };
    let missing = says(&bed.image("a:1", b"no such manifest"), "has no image sha256:");
    assert!(missing.contains(&bed.address.to_string()), "{missing}");
    says(&PinnedImage { name: bed.name("b:1"), ..right.clone() }, "has no image sha256:");

    let manifest = |kind: &str, size: usize| {
        format!(
            r#"{{"schemaVersion": 2, "mediaType": "{MANIFEST}", "config": {{"mediaType":
            "application/vnd.oci.empty.v1+json", "digest": "{}", "size": 2}}, "layers":
            [{{"mediaType": "{kind}", "digest": "{}", "size": {size}}}]}}"#,
            digest(b"{}"),
            digest(MODULE)
        )
    };
    let text = bed.keep("a", MANIFEST, &manifest("text/plain", MODULE.len()));
    says(
        &text,
        "it has no WebAssembly module: none of its layers is of the type `application/wasm`",
    );
    let huge = bed.keep("a", MANIFEST, &manifest("application/wasm", limits::MAX_MODULE + 1));
    says(&huge, "its module has 16777217 bytes, and 16777216 are the most");
    // it is longer than its manifest says
    let longer = bed.keep("a", MANIFEST, &manifest("application/wasm", MODULE.len() - 1));
    says(&longer, "is too large: 7 bytes are the most");
    let index = format!(
        r#"{{"schemaVersion": 2, "mediaType": "{INDEX}", "manifests": [{{"mediaType": "{MANIFEST}",
        "digest": "{}", "size": {}}}]}}"#,
        right.digest,
        fs::metadata(bed.stored(&right.digest.to_string())).expect("it is stored").len()
    );
    says(&bed.keep("a", INDEX, &index), "it is an index of several images");
    // the older type is a module's, too
    let older = bed.keep("a", MANIFEST, &manifest("application/vnd.wasm.content.layer.v1+wasm", 8));
    assert_eq!(registries.pull(&older).expect("it is one").module.bytes(), MODULE);
}

#[test]
fn what_a_registry_gives_in_place_of_a_module_is_not_taken() {
    let bed = Bed::open();
    let registries = Registries::default();
    let image = registries.push(&bed.name("a:1"), "a", MODULE.to_vec()).expect("it is taken");
    let layer = bed.stored(&digest(MODULE));
    let manifest = bed.stored(&image.digest.to_string());
    for (file, was) in [(&layer, MODULE.to_vec()), (&manifest, fs::read(&manifest).expect("it is"))]
    {
        let mut other = was.clone();
        // of a manifest this is a letter of the title
        let at = other.len() - 6;
        other[at] ^= 1;
        fs::write(file, &other).expect("it is there");
        let error = registries.pull(&image).expect_err("it is another one").to_string();
        assert!(error.contains(&format!("which has {}", digest(&other))), "{error}");
        fs::write(file, was).expect("it is there");
        assert!(registries.pull(&image).is_ok());
    }
    fs::remove_file(layer).expect("it is there");
    let error = registries.pull(&image).expect_err("it is gone").to_string();
    assert!(error.contains(&format!("has no layer {}", digest(MODULE))), "{error}");
}

#[test]
fn a_registry_that_is_away_is_named_and_has_all_of_it_when_it_is_back() {
    let bed = Bed::open();
    let registries = Registries::default();
    let image = registries.push(&bed.name("a:1"), "a", MODULE.to_vec()).expect("it is taken");
    let mut bed = bed.end();
    let error = registries.pull(&image).expect_err("nobody listens").to_string();
    let expected = format!("registry {} cannot be asked: ", bed.address);
    assert!(error.starts_with(&expected) && error.contains("Connection refused"), "{error}");
    assert!(error.ends_with("see that it runs, and that this machine reaches it"), "{error}");

    let folder = std::mem::replace(&mut bed.folder, tempfile::tempdir().expect("a folder"));
    let address = bed.address.to_string();
    let _again = Bed::again(folder, &address, "", Command::new(PROGRAM));
    assert_eq!(registries.pull(&image).expect("it is there").module.bytes(), MODULE);
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
