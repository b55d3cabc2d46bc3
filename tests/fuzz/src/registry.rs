//! What registries answer: whatever it is, it is an image with one module or why not, in few words; nobody
//! is asked without encryption, nor with an address that pretends; and credentials are an entry's or nobody's.

use millrace_abi::limits;
use millrace_registry::address;
use millrace_registry::challenge::Challenge;
use millrace_registry::credentials::Credentials;
use millrace_registry::manifest;

/// Takes `input` for a manifest, a file of credentials, and the text of a header.
///
/// # Panics
/// If something of that is not as it is to be.
pub fn run(input: &[u8]) {
    match manifest::module(input) {
        Ok(layer) => assert!(layer.bytes <= limits::MAX_MODULE, "{layer:?}"),
        Err(error) => is_short(&error.to_string()),
    }
    match Credentials::read(input, "registry.example", "team/filter") {
        Ok(Some(credentials)) => {
            let said = credentials.basic();
            let encoded = said.strip_prefix("Basic ").expect("that is how it begins");
            let is_base64 = |c: u8| c.is_ascii_alphanumeric() || b"+/=".contains(&c);
            assert!(encoded.bytes().all(is_base64), "{said:?}");
        }
        Ok(None) => {}
        Err(why) => is_short(&why),
    }
    let Ok(header) = str::from_utf8(input) else { return };
    goes_where_it_may(header);
    let here = REGISTRY.parse().expect("it is an address");
    goes_where_it_may(&address::absolute(&here, header));
    if let Some(Challenge::Bearer(question)) = Challenge::read(header) {
        goes_where_it_may(&question.url("repository:team/filter:pull"));
    }
}

/// One of each that is taken, and of those that are not.
pub fn seeds() -> Vec<Vec<u8>> {
    let digest = "0".repeat(64);
    let layer = format!(
        r#"{{"mediaType": "application/wasm", "digest": "sha256:{digest}", "size": 9,
        "annotations": {{"org.opencontainers.image.title": "a.wasm"}}}}"#
    );
    let manifest = |layers: &str| {
        format!(
            r#"{{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {{"mediaType": "application/vnd.oci.empty.v1+json", "digest": "sha256:0",
            "size": 2}}, "layers": [{layers}]}}"#
        )
    };
    let other = layer.replace("application/wasm", "text/plain");
    [
        manifest(&layer),
        manifest(&format!("{other}, {layer}")),
        manifest(&other),
        r#"{"schemaVersion": 2, "manifests": [{"digest": "sha256:0"}]}"#.to_owned(),
        r#"{"auths": {"https://registry.example/v1/": {"auth": "YTpi"},
            "registry.example/team": {"username": "a", "password": "b"}}}"#
            .to_owned(),
        r#"Bearer realm="https://registry.example/token",service="a",scope="repository:a:pull""#
            .to_owned(),
        r#"Basic realm="\"a", Bearer Realm = https://a?b , error=c"#.to_owned(),
        "http://127.0.0.1:5000@registry.example/".to_owned(),
        "/v2/team/filter/blobs?a=b#c".to_owned(),
    ]
    .map(String::into_bytes)
    .into()
}

fn is_short(said: &str) {
    assert!(said.chars().count() < LONGEST && !said.contains(char::is_control), "{said:?}");
}

/// An address that is asked is of somebody who is asked like that.
fn goes_where_it_may(address: &str) {
    let Ok(uri) = address::read(address, |host| host == PLAIN) else { return };
    let authority = uri.authority().expect("somebody is asked").as_str();
    assert!(!authority.contains('@'), "{address:?}");
    let is_plain = uri.host() == Some("127.0.0.1") && uri.port_u16() == Some(5000);
    assert!(uri.scheme_str() == Some("https") || is_plain, "{address:?}");
}

const REGISTRY: &str = "http://127.0.0.1:5000/v2/";
/// Who is asked without encryption.
const PLAIN: &str = "127.0.0.1:5000";
/// Characters of what is said of them.
const LONGEST: usize = 800;
