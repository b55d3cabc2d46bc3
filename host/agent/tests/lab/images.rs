//! Filters whose modules a registry has: Debian's `docker-registry`, on the loopback of a node.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use crate::bed::{Bed, MILLRACE, NODES, PODS, until};
use crate::talk::{ECHO, Talk, ask_within};

#[test]
fn a_module_comes_from_a_registry_and_is_there_when_that_is_not() {
    let Some(place) = Place::open() else { return };
    let registry = place.registry();
    let first = place.push("deny-list", "quiet:1");
    let mut talk = place.talk();
    place.apply(&first, "");
    place.await_state("inForce");
    place.await_silence();
    say(&mut talk, "denied");

    // what has the digest is here already, whatever its name; no other one is to be had
    let missing = format!("{REGISTRY}/quiet:1@sha256:{}", "0".repeat(64));
    place.apply(&missing, "");
    place.await_state("behind");
    let problem = place.problem();
    assert!(
        problem.contains("has no image sha256:") && problem.contains("asked again"),
        "{problem}"
    );
    assert!(problem.ends_with("the filter before stays in force"), "{problem}");
    assert!(!place.is_answered(), "it still denies this");
    let status = place.bed.done(&["exec", "node:east", "--", MILLRACE, "status"]);
    assert!(status.contains("! Filter guard: ") && status.contains(&missing), "{status}");

    // what is gone is kept, for this agent and the next ones
    place.apply(&first, "");
    place.await_state("inForce");
    registry.end();
    for arguments in [&["restart", "east"][..], &["restart", "east", "--kill"]] {
        place.bed.done(arguments);
        place.await_state("inForce");
        assert!(!place.is_answered());
        say(&mut talk, "again");
    }
    let kept = place.bed.own_folder("east").join("modules/images");
    assert_eq!(fs::read_dir(&kept).expect("it is there").count(), 2, "a manifest and a module");
    place.bed.write(&[("filters.yaml", "")]);
    place.bed.done(&["apply", &place.bed.folder()]);
    until(|| place.is_answered().then_some(()));
    assert_eq!(fs::read_dir(&kept).expect("it is there").count(), 0);
    say(&mut talk, "over");
}

#[test]
fn a_registry_that_is_away_is_asked_until_it_is_back() {
    let Some(place) = Place::open() else { return };
    let registry = place.registry();
    let image = place.push("deny-list", "quiet:1");
    let folder = registry.end();
    // nothing passes that it would be asked about
    place.apply(&image, "onMissing: closed, ");
    place.await_state("closed");
    let problem = place.problem();
    assert!(problem.contains(&format!("registry {REGISTRY} cannot be asked: ")), "{problem}");
    assert!(problem.ends_with("nothing passes"), "{problem}");
    assert!(!place.is_answered());

    let registry = place.registry_in(folder);
    place.await_state("inForce");
    assert!(!place.is_answered(), "it denies this");

    // an image of something else, and one that is not what its digest says
    let digest = image.split_once('@').expect("it has one").1.to_owned();
    let other =
        registry.folder.path().join(BLOBS).join(&digest[7..9]).join(&digest[7..]).join("data");
    let manifest = fs::read_to_string(&other).expect("it is stored there");
    fs::write(&other, manifest.replace("deny-list.wasm", "other-list.wasm")).expect("it is there");
    // what was kept is not what its digests say either
    let modules = place.bed.own_folder("east").join("modules");
    fs::remove_file(modules.join("guard.wasm")).expect("it is there");
    for kept in fs::read_dir(modules.join("images")).expect("it is there") {
        fs::write(kept.expect("it can be listed").path(), "\0asm").expect("it is there");
    }
    place.bed.done(&["restart", "east", "--kill"]);
    place.await_state("closed");
    let problem = place.problem();
    assert!(problem.contains("gives something else for sha256:"), "{problem}");
    fs::write(&other, manifest).expect("it is there");
    place.await_state("inForce");
}

/// A node, with pods, whose network has a registry.
struct Place {
    bed: Bed,
}

/// A registry in it. It is ended when this is dropped.
struct Registry {
    child: Child,
    folder: tempfile::TempDir,
}

impl Place {
    fn open() -> Option<Self> {
        Some(Self { bed: Bed::of(&[("nodes.yaml", NODES), ("pods.yaml", PODS)], &[])? })
    }

    fn registry(&self) -> Registry {
        self.registry_in(tempfile::tempdir().expect("a folder"))
    }

    /// One with what is in a folder.
    fn registry_in(&self, folder: tempfile::TempDir) -> Registry {
        let path = folder.path().join("config.yml");
        let storage = folder.path().join("storage");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{REGISTRY}'}}\n",
            storage.display()
        );
        fs::write(&path, config).expect("the folder is there");
        let (node, _) = self.bed.node("east");
        let mut command = node.command("docker-registry");
        command.arg("serve").arg(&path).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().expect("docker-registry is there: `make setup` installs it");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut lines = log.lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("listening on")), "it ends without listening");
        // who is not listened to waits
        thread::spawn(move || lines.for_each(drop));
        Registry { child, folder }
    }

    /// Pushes a built-in filter, from the node; what its image is to be called.
    fn push(&self, filter: &str, name: &str) -> String {
        let name = format!("{REGISTRY}/{name}");
        let words = ["exec", "node:east", "--", MILLRACE, "filter", "push", filter, &name];
        let output = self.bed.lab(&[&words[..], &["-o", "json"]].concat());
        assert!(output.status.success(), "{output:?}");
        let pushed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        pushed["image"].as_str().expect("it has a name").to_owned()
    }

    /// Has a filter with the module of this image be in the chain of all nodes.
    fn apply(&self, image: &str, more: &str) {
        let filters = format!(
            "{{apiVersion: millrace.dev/v1alpha1, kind: Filter, metadata: {{name: guard}}, \
             spec: {{{more}source: {{oci: {{image: '{image}'}}}}, \
             config: {{rules: [{{protocol: udp}}]}}}}}}\n---\n\
             {{apiVersion: millrace.dev/v1alpha1, kind: FilterChain, metadata: {{name: edge}}, \
             spec: {{stages: [{{filter: guard, before: bridge}}]}}}}\n"
        );
        self.bed.write(&[("filters.yaml", &filters)]);
        self.bed.done(&["apply", &self.bed.folder()]);
    }

    fn standing(&self) -> serde_json::Value {
        self.bed.asked("east", &["status"])["resources"]["filters"]["guard"].clone()
    }

    fn await_state(&self, state: &str) {
        until(|| (self.standing()["state"] == state).then_some(()));
    }

    fn problem(&self) -> String {
        self.standing()["problems"][0].as_str().expect("there is a problem").to_owned()
    }

    fn talk(&self) -> Talk {
        let (client, server) = self.ends();
        Talk::open(&client, server).expect("it is open")
    }

    fn await_silence(&self) {
        until(|| (!self.is_answered()).then_some(()));
    }

    /// Whether a datagram to the server is answered, and soon.
    fn is_answered(&self) -> bool {
        let (client, server) = self.ends();
        ask_within(SOON, &client, server).is_ok()
    }

    /// A pod of the node, and where another one of it answers.
    fn ends(&self) -> (millrace_netns::Namespace, SocketAddr) {
        let (client, _) = self.bed.pod(CLIENT);
        let (_, servers) = self.bed.pod(SERVER);
        (client, SocketAddr::new(servers[0], ECHO))
    }
}

impl Registry {
    /// Ends it; what it has is in the folder.
    fn end(mut self) -> tempfile::TempDir {
        self.kill();
        std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"))
    }

    fn kill(&mut self) {
        // one that has ended is waited for all the same
        let _ = self.child.kill();
        self.child.wait().expect("it was started here");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
    }
}

fn say(talk: &mut Talk, word: &str) {
    assert_eq!(talk.say(word).expect("it goes on").text, word);
}

/// Pods of the node.
const CLIENT: &str = "shop";
const SERVER: &str = "cart";
/// The node's own, and nobody else's.
const REGISTRY: &str = "127.0.0.1:5000";
/// Where a registry has what it keeps.
const BLOBS: &str = "storage/docker/registry/v2/blobs/sha256";
/// How long an answer may take that is not expected.
const SOON: Duration = Duration::from_millis(300);
