//! What an agent puts on its node for container runtimes, and takes away at the end.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use crate::bed::{Bed, Container, until};
use crate::http;

#[test]
fn c2_the_loopback_that_an_agent_ships_is_the_one_that_runtimes_expect() {
    let Some(bed) = Bed::new() else { return };
    let agent = bed.start();
    assert_eq!(names(&bed.plugins()), ["loopback", "millrace-cni"]);
    drop(agent);

    let container = Container::new();
    let net = container.namespace.netlink().expect("it is there");
    net.set_down("lo").expect("every namespace has one");
    // as containerd calls it, for which no agent is needed
    let call = |verb| {
        let call = bed
            .call(verb, Some(&container))
            .with("CNI_IFNAME", "lo")
            .to(bed.plugins().join("loopback"));
        call.saying(r#"{"cniVersion": "1.0.0", "name": "cni-loopback", "type": "loopback"}"#)
    };
    let result = call("ADD").done();
    assert_eq!(result["interfaces"][0]["name"], "lo");
    assert_eq!(result["ips"][0], json!({"address": "127.0.0.1/8", "interface": 0}));
    assert!(net.link("lo").expect("it is there").up);
    let check = call("CHECK").configured("prevResult", result);
    assert_eq!(check.make().silent(), Ok(()));
    net.set_down("lo").expect("it is there");
    assert_eq!(check.code(), 102);
    assert_eq!(call("DEL").with("CNI_NETNS", "").make().silent(), Ok(()));
    assert_eq!(
        call("ADD").with("CNI_NETNS", "/proc/self/ns/net").code(),
        8,
        "it is the node's own"
    );
    assert_eq!(call("STATUS").code(), 1, "there was no STATUS yet");
}

#[test]
fn another_network_plugin_and_kube_proxy_are_named() {
    let Some(bed) = Bed::new() else { return };
    let other = r#"{"name": "n", "plugins": [{"type": "flannel"}]}"#;
    fs::write(bed.conflist().with_file_name("10-flannel.conflist"), other).expect("it is written");
    let _agent = bed.start();
    let others = || bed.asked("status")["others"].clone();
    let log = "10-flannel.conflist (plugin `flannel`)";
    assert!(bed.log().contains(log), "{}", bed.log());
    let alone = others();
    assert_eq!(alone.as_array().map(Vec::len), Some(1), "{alone}");
    assert!(alone[0].to_string().contains(log), "{alone}");

    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 10249));
    let proxy = bed.node.run(listen).expect("entered").expect("nobody listens there");
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = proxy.accept().expect("the agent asks");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).expect("it asks");
            assert!(request[..length].starts_with(b"GET /proxyMode "));
            let answer = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nnftables";
            stream.write_all(answer.as_bytes()).expect("it listens");
        });
        let others = others();
        assert_eq!(others.as_array().map(Vec::len), Some(2), "{others}");
        assert!(others[0].to_string().contains("kube-proxy runs here too (mode nftables)"));
    });
}

#[test]
fn after_cleanup_no_runtime_is_sent_to_a_plugin_that_is_gone() {
    let Some(bed) = Bed::new() else { return };
    drop(bed.start());
    assert!(bed.conflist().exists());
    fs::write(bed.plugins().join("bridge"), "theirs").expect("it is written");
    let removed = bed.asked("cleanup");
    let files = removed.as_array().expect("a list").iter().filter(|it| it["kind"] == "file");
    let files: Vec<_> = files.map(|it| it["name"].as_str().unwrap_or_default()).collect();
    let place = |name| files.iter().position(|file| file.ends_with(name)).expect("it is removed");
    assert!(place("05-millrace.conflist") < place("loopback"));
    assert!(place("loopback") < place("bin/millrace-cni"));
    assert_eq!(names(&bed.plugins()), ["bridge"]);
    assert!(!bed.conflist().exists());
}

#[test]
fn after_a_boot_cleanup_removes_what_nobody_remembers_and_is_told_of() {
    let Some(bed) = Bed::new() else { return };
    drop(bed.start());
    fs::remove_file(bed.socket().with_file_name("node.json")).expect("it was remembered");
    bed.asked("cleanup");
    assert!(bed.conflist().exists(), "nobody has said where it is");

    let cache = bed.plugins().with_file_name("modules");
    fs::create_dir(&cache).expect("the folder can be written");
    fs::write(cache.join("bridge.cwasm"), "compiled").expect("the folder can be written");
    let mut cleanup = bed.command("cleanup");
    cleanup.arg("--conflist").arg(bed.conflist()).arg("--module-cache").arg(&cache);
    answer(cleanup.arg("--cni-bin-dir").arg(bed.plugins()));
    assert!(!bed.conflist().exists() && !cache.exists());
    assert_eq!(names(&bed.plugins()), [""; 0]);
}

#[test]
fn filters_are_kept_in_the_folder_that_is_said_and_cleanup_is_told_of_it() {
    let Some(bed) = Bed::new() else { return };
    let folder = |name| bed.socket().with_file_name(name);
    let module = folder("mine.wasm");
    let bytes = millrace_builtin::find("deny-list").expect("it is an example").bytes;
    fs::write(&module, bytes).expect("the folder can be written");
    bed.write("filter.yaml", &filter(&module));
    let kept = folder("kept");
    let kept_flag = format!("--kept-filters={}", kept.display());
    let agent = bed.start_as(&[&kept_flag]);
    until(|| kept.join("mine.json").exists().then_some(()));
    assert_eq!(fs::read(kept.join("mine.wasm")).expect("it is there"), bytes);
    assert!(!folder("modules").exists(), "nothing is kept elsewhere");
    drop(agent);

    // whoever starts without the file has it from there
    fs::remove_file(&module).expect("it is there");
    let agent = bed.start_as(&[&kept_flag]);
    let (_, chain) = http::ask(&bed.socket(), "GET", "/v1/filters/mine", "");
    assert!(chain.contains("deny-list"), "{chain}");
    drop(agent);

    answer(bed.command("cleanup").arg(kept_flag));
    assert!(!kept.exists());
}

#[test]
fn without_the_plugin_beside_it_an_agent_writes_no_conflist() {
    let Some(bed) = Bed::new() else { return };
    let alone = bed.plugins().with_file_name("millrace");
    fs::copy(env!("CARGO_BIN_EXE_millrace"), &alone).expect("it is copied");
    let output = bed.agent(&alone).output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("--cni-bin-dir"), "{error}");
    assert!(!bed.conflist().exists());
}

/// A filter in a file, and a chain that has it.
fn filter(module: &Path) -> String {
    format!(
        "
apiVersion: millrace.dev/v1alpha1
kind: Filter
metadata: {{name: mine}}
spec: {{source: {{file: {}}}, config: {{rules: []}}}}
---
apiVersion: millrace.dev/v1alpha1
kind: FilterChain
metadata: {{name: edge}}
spec: {{nodeSelector: {{matchLabels: {{}}}}, stages: [{{filter: mine, before: bridge}}]}}
",
        module.display()
    )
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).expect("it is there");
    let name = |file: fs::DirEntry| file.file_name().into_string().expect("it is text");
    let mut names: Vec<_> = files.map(|file| name(file.expect("it can be read"))).collect();
    names.sort();
    names
}

impl Bed {
    /// What the program says to a command, in JSON.
    pub(crate) fn asked(&self, command: &str) -> Value {
        answer(&mut self.command(command))
    }

    fn command(&self, command: &str) -> Command {
        let mut program = self.node.command(env!("CARGO_BIN_EXE_millrace"));
        program.args([command, "-o", "json", "--socket"]).arg(self.socket());
        if command == "cleanup" {
            program.arg("--pins").arg(self.pins());
        }
        program
    }
}

fn answer(program: &mut Command) -> Value {
    let output = program.output().expect("the program is built");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("it is JSON")
}
