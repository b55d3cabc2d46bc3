//! A lab for a test.

use std::fs;
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use millrace_netns::{Namespace, NamespaceError, unique_name};
use serde_json::Value;

/// A lab, which is taken down when this is dropped.
pub(crate) struct Bed {
    name: String,
    /// The folder of manifests that it has been made of.
    pub(crate) manifests: tempfile::TempDir,
}

/// A pod's network, and its addresses, IPv4 first.
pub(crate) type Pod = (Namespace, Vec<IpAddr>);

impl Bed {
    /// Brings up the nodes and pods of the example, unless there are no privileges to.
    pub(crate) fn up() -> Option<Self> {
        Self::up_as(&[])
    }

    /// The same, made another way.
    pub(crate) fn up_as(arguments: &[&str]) -> Option<Self> {
        Self::of(&[("nodes.yaml", NODES), ("pods.yaml", PODS)], arguments)
    }

    /// Brings up a lab of manifests.
    pub(crate) fn of(manifests: &[(&str, &str)], arguments: &[&str]) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let bed =
            Self { name: unique_name("t"), manifests: tempfile::tempdir().expect("a folder") };
        bed.write(manifests);
        bed.done(&[&["up", &*bed.folder()], arguments].concat());
        Some(bed)
    }

    /// Writes manifests, in place of files of the same names.
    pub(crate) fn write(&self, manifests: &[(&str, &str)]) {
        for (file, text) in manifests {
            fs::write(self.manifests.path().join(file), text).expect("the folder is there");
        }
    }

    /// Where the manifests are.
    pub(crate) fn folder(&self) -> String {
        self.manifests.path().display().to_string()
    }

    pub(crate) fn lab(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(MILLRACE);
        command.arg("lab").args(arguments).env("MILLRACE_LAB", &self.name);
        command.output().expect("the program is there")
    }

    /// What a command of `millrace lab` prints, which is to succeed.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.lab(arguments);
        let errors = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}{errors}", text(&output.stdout));
        assert_eq!(errors, "", "{arguments:?}");
        text(&output.stdout)
    }

    /// A command of a node that goes on by itself.
    pub(crate) fn begun(&self, node: &str, arguments: &[&str]) -> Child {
        let mut command = Command::new(MILLRACE);
        command.args(["lab", "exec", &format!("node:{node}"), "--", MILLRACE]).args(arguments);
        command.env("MILLRACE_LAB", &self.name).stdout(Stdio::piped());
        command.spawn().expect("the program is there")
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.done(&["status", "-o", "json"])).expect("it is JSON")
    }

    /// What a node's agent answers.
    pub(crate) fn asked(&self, node: &str, arguments: &[&str]) -> Value {
        let place = format!("node:{node}");
        let words = [&["exec", &*place, "--", MILLRACE], arguments, &["-o", "json"]].concat();
        serde_json::from_str(&self.done(&words)).expect("it is JSON")
    }

    /// What a node's agent knows of a pod's connection, once the kernel has both directions.
    pub(crate) fn flow(&self, node: &str, stream: &TcpStream) -> Value {
        let client = stream.local_addr().expect("it is connected");
        until(|| {
            let flows = self.asked(node, &["flows"]);
            let ours = |flow: &&Value| {
                flow["original"]["source"] == client.to_string() && flow["protocol"] == "tcp"
            };
            let flow = flows["flows"].as_array()?.iter().find(ours)?.clone();
            let both = ["original", "reply"];
            both.iter().all(|way| flow[way]["generation"].is_u64()).then_some(flow)
        })
    }

    /// The network of the host outside.
    pub(crate) fn outside(&self) -> Namespace {
        let state = self.state();
        let namespace = state["outside"]["namespace"].as_str().expect("it has a namespace");
        Namespace::open(namespace).expect("it is there")
    }

    pub(crate) fn pod(&self, name: &str) -> Pod {
        self.place("pods", &format!("default/{name}"))
    }

    /// A node's own network, and its addresses.
    pub(crate) fn node(&self, name: &str) -> Pod {
        self.place("nodes", name)
    }

    fn place(&self, kind: &str, name: &str) -> Pod {
        let state = self.state();
        let places = state[kind].as_array().expect("there are some");
        let place = places.iter().find(|it| it["name"] == name);
        let place = place.unwrap_or_else(|| panic!("{name} is not among {state:#}"));
        let addresses = serde_json::from_value(place["addresses"].clone()).expect("addresses");
        let namespace = place["namespace"].as_str().expect("it has a namespace");
        (Namespace::open(namespace).expect("it is there"), addresses)
    }

    /// Where a node's agent pins what outlives it.
    pub(crate) fn pins(&self, node: &str) -> PathBuf {
        self.all_pins().join(self.numbered(node))
    }

    /// The folder where a node's agent has its socket.
    pub(crate) fn own_folder(&self, node: &str) -> PathBuf {
        Path::new("/run/millrace/lab").join(&self.name).join(self.numbered(node))
    }

    fn numbered(&self, node: &str) -> String {
        let nodes = self.state()["nodes"].clone();
        let nodes = nodes.as_array().expect("there are nodes");
        let number = nodes.iter().position(|it| it["name"] == node).expect("it is there");
        format!("node{number}")
    }

    fn all_pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/millrace-lab").join(&self.name)
    }

    /// Whatever of the lab there is: namespaces, a folder, processes.
    pub(crate) fn traces(&self) -> Vec<String> {
        let prefix = format!("lab.{}.", self.name);
        let mut traces = Namespace::list();
        traces.retain(|name| name.starts_with(&prefix));
        let folder = Path::new("/run/millrace/lab").join(&self.name);
        if folder.exists() {
            traces.push(folder.display().to_string());
        }
        for process in fs::read_dir("/proc").expect("this is Linux").flatten() {
            // a process that ends meanwhile has none any more
            let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains(&*folder.to_string_lossy()) {
                traces.push(process.path().display().to_string());
            }
        }
        traces
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // one that a test has taken down is gone
        let down = self.lab(&["down"]);
        if !thread::panicking() {
            assert!(!self.all_pins().exists(), "pins outlive it: {}", text(&down.stderr));
        }
    }
}

/// Asks until there is an answer.
pub(crate) fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "what is awaited does not come");
        thread::yield_now();
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

/// Whether namespaces can be made.
fn is_root() -> bool {
    match Namespace::create_unique("lab-test") {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            false
        }
        outcome => outcome.map(|_| true).expect("root can make namespaces"),
    }
}

pub(crate) const MILLRACE: &str = env!("CARGO_BIN_EXE_millrace");
pub(crate) const NODES: &str = include_str!("../../../../examples/lab/nodes.yaml");
pub(crate) const PODS: &str = include_str!("../../../../examples/lab/pods.yaml");
/// How long something may take that comes by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
