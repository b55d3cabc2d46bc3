//! The ways to a registry: with TLS and without, and by where it sends to.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ipnetwork::IpNetwork;
use millrace_netns::{Namespace, NamespaceError};
use millrace_registry::Registries;

use crate::bed::{Bed, MODULE, PASSWORD, PROGRAM, USER, credentials, knowing};
use crate::rights::{BCRYPT, openssl};
use crate::wire;

#[test]
fn a_registry_elsewhere_is_asked_over_tls_unless_it_is_named_as_one_without() {
    let Some(namespace) = elsewhere() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let [key, certificate] =
        ["key.pem", "certificate.pem"].map(|name| folder.path().join(name).display().to_string());
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=authority",
        "-days",
        "2",
        "-addext",
        &format!("subjectAltName=IP:{ELSEWHERE}"),
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        &key,
        "-out",
        &certificate,
    ]);
    let tls = format!("  tls: {{certificate: {certificate}, key: {key}}}");
    let start = |more: &str| Bed::at(&format!("{ELSEWHERE}:0"), more, namespace.command(PROGRAM));
    let (closed, open) = (start(&tls), start(""));
    let plain = vec![open.address.to_string()];
    let authorities = Some(folder.path().join("certificate.pem"));
    let here = Registries { authorities, plain, ..Registries::default() };
    let asked = |registries: &Registries, bed: &Bed| {
        let name = bed.name("a:1");
        let outcome = namespace.run(|| {
            let image = registries.push(&name, "a", MODULE.to_vec())?;
            registries.pull(&image)
        });
        let outcome = outcome.expect("the namespace is there");
        outcome.map(|pulled| pulled.module.bytes().to_vec()).map_err(|error| error.to_string())
    };
    for bed in [&closed, &open] {
        assert_eq!(asked(&here, bed).as_deref(), Ok(MODULE));
    }
    let nothing = Registries::default();
    let error = asked(&nothing, &closed).expect_err("nobody vouches for it");
    assert!(error.contains("certificate") && error.contains("`--registry-ca`"), "{error}");
    let error = asked(&nothing, &open).expect_err("it speaks no TLS");
    assert!(error.contains("name it with `--plain-http-registry`"), "{error}");

    let missing = Registries { authorities: Some("/none/ca.pem".into()), ..Registries::default() };
    let error = asked(&missing, &closed).expect_err("there is no file");
    assert!(error.starts_with("/none/ca.pem: "), "{error}");
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").expect("the folder is there");
    let empty = Registries { authorities: Some(empty), ..Registries::default() };
    let error = asked(&empty, &closed).expect_err("there is nothing in it");
    assert!(error.contains("it has no certificates"), "{error}");
}

#[test]
fn a_layer_is_had_from_where_the_registry_sends_to_and_credentials_stay_here() {
    let root = Arc::new(Mutex::new(None::<PathBuf>));
    let place = Arc::clone(&root);
    let (address, asked) = wire::serve(move |asked| {
        let root = place.lock().expect("nobody panics").clone().expect("it is known");
        let path = asked.path.split('?').next().expect("there is one");
        match fs::read(root.join(path.trim_start_matches('/'))) {
            Ok(bytes) => (200, String::new(), bytes),
            Err(_) => (404, String::new(), Vec::new()),
        }
    });
    let secrets = tempfile::tempdir().expect("a folder");
    let users = secrets.path().join("users");
    fs::write(&users, format!("{USER}:{}\n", BCRYPT)).expect("the folder is there");
    let bed = Bed::with(&format!(
        "auth: {{htpasswd: {{realm: mill, path: {}}}}}\n\
         middleware: {{storage: [{{name: redirect, options: {{baseurl: 'http://{address}/'}}}}]}}",
        users.display()
    ));
    *root.lock().expect("nobody panics") = Some(bed.folder.path().join("storage"));
    let file = secrets.path().join("config.json");
    credentials(&file, &bed.address.to_string(), PASSWORD);
    let registries = knowing(&file);
    let image = registries.push(&bed.name("a:1"), "a", MODULE.to_vec()).expect("it is taken");
    assert_eq!(registries.pull(&image).expect("it is there").module.bytes(), MODULE);
    let there: Vec<_> = asked.try_iter().collect();
    assert!(there.iter().any(|it| it.path.contains("/blobs/sha256/")), "{there:?}");
    assert!(there.iter().all(|it| it.header("authorization").is_none()), "{there:?}");
}

#[test]
fn a_registry_that_sends_round_in_circles_or_out_of_sight_is_not_followed() {
    let (address, _asked) = wire::serve(|asked| {
        let to = match asked.path.contains("round") {
            true => asked.path.clone(),
            false => "http://registry.example/elsewhere".to_owned(),
        };
        (307, format!("Location: {to}\r\n"), Vec::new())
    });
    let says = |name: &str| {
        let image = format!("{address}/{name}@sha256:{}", "0".repeat(64));
        let image = image.parse().expect("it is an image");
        Registries::default().pull(&image).expect_err("nothing is there").to_string()
    };
    assert!(says("round").contains("it was sent on too often"));
    let error = says("out");
    assert!(error.contains("sends to `http://registry.example/elsewhere`"), "{error}");
    assert!(error.contains("it is not encrypted"), "{error}");
}

#[test]
fn nobody_is_asked_for_a_token_where_that_is_overheard_and_who_gives_none_is_named() {
    let realm = Arc::new(Mutex::new(String::new()));
    let place = Arc::clone(&realm);
    let (address, asked) = wire::serve(move |asked| match asked.path.split('?').next() {
        // no header can have a line's end
        Some("/token") => (200, String::new(), br#"{"token": "a\nb"}"#.to_vec()),
        Some("/sent") => (307, "Location: /token\r\n".to_owned(), Vec::new()),
        _ => {
            let realm = place.lock().expect("nobody panics").clone();
            (401, format!("WWW-Authenticate: Bearer realm=\"{realm}\"\r\n"), Vec::new())
        }
    });
    let secrets = tempfile::tempdir().expect("a folder");
    let file = secrets.path().join("config.json");
    credentials(&file, &address.to_string(), PASSWORD);
    let image = format!("{address}/a@sha256:{}", "0".repeat(64)).parse().expect("it is an image");
    for (from, why) in [
        ("http://registry.example/token".to_owned(), "it is not encrypted"),
        (format!("http://{address}@registry.example/token"), "it has the name of a user in it"),
        ("token".to_owned(), "that is no address"),
        (format!("http://{address}/token"), "it gives no token"),
        (format!("http://{address}/sent"), "answers 307"),
    ] {
        *realm.lock().expect("nobody panics") = from;
        let error = knowing(&file).pull(&image).expect_err("there is no token").to_string();
        assert!(error.contains(why), "{error}");
    }
    let known: Vec<_> =
        asked.try_iter().filter(|it| it.header("authorization").is_some()).collect();
    let [token, sent] = &known[..] else { panic!("{known:?}") };
    assert!(token.path.starts_with("/token?") && sent.path.starts_with("/sent?"), "{known:?}");
}

/// A network with an address that is not of the loopback.
fn elsewhere() -> Option<Namespace> {
    let namespace = match Namespace::create_unique("registry") {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            return None;
        }
        outcome => outcome.expect("root can make namespaces"),
    };
    let net = namespace.netlink().expect("it has links");
    let address = IpNetwork::from(ELSEWHERE.parse::<IpAddr>().expect("it is one"));
    net.set_up("lo").and_then(|()| net.add_address("lo", address)).expect("root may");
    Some(namespace)
}

const ELSEWHERE: &str = "198.51.100.1";
