//! Registries that want to know who asks.

use std::fs;
use std::path::Path;
use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use millrace_registry::{Registries, RegistryError};

use crate::bed::{Bed, MODULE, PASSWORD, USER, credentials, knowing};
use crate::wire::{self, Asked};

#[test]
fn who_asks_with_the_password_of_a_file_is_let_in_and_nobody_else_is() {
    let secrets = tempfile::tempdir().expect("a folder");
    let users = secrets.path().join("users");
    fs::write(&users, format!("{USER}:{BCRYPT}\n")).expect("the folder is there");
    let bed = Bed::with(&format!(
        "auth: {{htpasswd: {{realm: 'mill, race', path: {}}}}}",
        users.display()
    ));
    let registry = bed.address.to_string();
    let file = secrets.path().join("config.json");
    let registries = knowing(&file);
    let push = |registries: &Registries| registries.push(&bed.name("a/b:1"), "b", MODULE.to_vec());

    let error = push(&Registries::default()).expect_err("nobody is known");
    assert!(matches!(error, RegistryError::Anonymous { .. }), "{error}");
    let error = push(&registries).expect_err("there is no file").to_string();
    assert!(error.contains("config.json: No such file"), "{error}");
    credentials(&file, "registry.example", PASSWORD);
    let error = push(&registries).expect_err("they are for another one");
    assert!(matches!(error, RegistryError::Anonymous { .. }), "{error}");
    credentials(&file, &registry, "wrong");
    let error = push(&registries).expect_err("it is wrong").to_string();
    assert!(error.contains("(401): see that they are right and may write to it"), "{error}");

    // the file is read anew
    credentials(&file, &registry, PASSWORD);
    let image = push(&registries).expect("it is right");
    assert_eq!(registries.pull(&image).expect("it is right").module.bytes(), MODULE);
    credentials(&file, &registry, "wrong");
    let error = registries.pull(&image).expect_err("it is wrong").to_string();
    assert!(error.contains("(401): see that they are right and may read it"), "{error}");
    let error = Registries::default().pull(&image).expect_err("nobody is known").to_string();
    assert!(
        error.contains("wants credentials") && error.contains("`--registry-credentials`"),
        "{error}"
    );
}

#[test]
fn a_token_is_had_where_the_registry_says_and_for_what_it_says() {
    let secrets = tempfile::tempdir().expect("a folder");
    let issuer = Issuer::new(secrets.path());
    let basic = format!("Basic {}", BASE64.encode(format!("{USER}:{PASSWORD}")));
    let certificate = issuer.certificate.clone();
    let tokens = move |asked: &Asked| match asked.header("authorization") {
        Some(who) if who == basic => {
            let wants = ["pull", "push"].into_iter().filter(|it| asked.path.contains(it));
            let token = issuer.token(&wants.collect::<Vec<_>>());
            let body = format!(r#"{{"token": "{token}"}}"#);
            (200, String::new(), body.into_bytes())
        }
        // some may read
        None => {
            let body = format!(r#"{{"access_token": "{}"}}"#, issuer.token(&["pull"]));
            (200, String::new(), body.into_bytes())
        }
        Some(_) => (403, String::new(), Vec::new()),
    };
    let (address, asked) = wire::serve(tokens);
    let bed = Bed::with(&format!(
        "auth: {{token: {{realm: 'http://{address}/token', service: mill, issuer: {ISSUER}, \
         rootcertbundle: {certificate}}}}}"
    ));
    let file = secrets.path().join("config.json");
    credentials(&file, &bed.address.to_string(), PASSWORD);
    let image = knowing(&file).push(&bed.name("a/b:1"), "b", MODULE.to_vec());
    let image = image.expect("it may be written");
    let questions: Vec<_> = asked.try_iter().map(|it| it.path).collect();
    let [look, write] = &questions[..] else { panic!("{questions:?}") };
    assert_eq!(look, "/token?service=mill&scope=repository%3Aa%2Fb%3Apull");
    assert!(write.contains("push"), "{write}");

    let anonymous = Registries::default();
    assert_eq!(anonymous.pull(&image).expect("all may read").module.bytes(), MODULE);
    let error =
        anonymous.push(&bed.name("a/b:2"), "c", b"\0asm c".to_vec()).expect_err("only read");
    assert!(matches!(error, RegistryError::Anonymous { .. }), "{error}");
    credentials(&file, &bed.address.to_string(), "wrong");
    let error = knowing(&file).pull(&image).expect_err("it is wrong").to_string();
    assert!(error.contains("(403): see that they are right and may read it"), "{error}");
}

/// Who gives tokens that a registry takes.
struct Issuer {
    key: String,
    certificate: String,
}

impl Issuer {
    fn new(folder: &Path) -> Self {
        let [key, certificate] =
            ["key.pem", "certificate.pem"].map(|name| folder.join(name).display().to_string());
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=issuer",
            "-days",
            "2",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]);
        Self { key, certificate }
    }

    /// A token that allows this to whoever has it.
    fn token(&self, actions: &[&str]) -> String {
        let certificate = fs::read_to_string(&self.certificate).expect("it was written");
        let lines = certificate.lines().filter(|line| !line.starts_with('-'));
        let header = format!(
            r#"{{"typ": "JWT", "alg": "RS256", "x5c": ["{}"]}}"#,
            lines.collect::<String>()
        );
        let claims = format!(
            r#"{{"iss": "{ISSUER}", "aud": "mill", "exp": 9999999999, "nbf": 0, "access":
            [{{"type": "repository", "name": "a/b", "actions": {actions:?}}}]}}"#
        );
        let [header, claims] = [header, claims].map(|it| URL_SAFE_NO_PAD.encode(it));
        let signed = format!("{header}.{claims}");
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), &signed).expect("it is there");
        let path = file.path().display().to_string();
        let signature = openssl(&["dgst", "-sha256", "-sign", &self.key, &path]);
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What `openssl` prints.
pub(crate) fn openssl(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("openssl").args(arguments).output();
    let output = output.expect("openssl is there: ca-certificates needs it");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    output.stdout
}

const ISSUER: &str = "issuer";
/// Of the password, with as few rounds as there can be.
pub(crate) const BCRYPT: &str = "$2y$04$PE8edFCKPjJOzM0Jtm0Tm.usKnPkdeYMHCCeh4yZY6dKJKggMcuX6";
