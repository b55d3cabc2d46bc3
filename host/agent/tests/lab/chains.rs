//! Filters of one's own in a lab's nodes, by Filters and FilterChains: put in, changed and taken out
//! while connections go on.

use std::fs;
use std::mem::offset_of;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use millrace_abi::{Decision, Field, INSPECT_ALL};
use serde_json::Value;

use crate::bed::{Bed, NODES, until};
use crate::talk::{ECHO, Talk, ask_within};

#[test]
fn a_filter_is_put_in_configured_swapped_and_taken_out_and_connections_go_on() {
    let Some(mill) = Mill::open() else { return };
    let built_in = mill.order("east");
    let mut talks = mill.talks();
    mill.await_answers();

    mill.apply(&(guard(&mill.file("deny-list"), NO_UDP) + &chain("edge", "{}", "before: bridge")));
    mill.await_filter("east", "guard", "inForce");
    mill.await_silence();
    assert_eq!(mill.order("east"), [&["guard".to_owned()], &built_in[..]].concat());
    let chains: Vec<_> = mill.stages("east").iter().map(|it| it["chain"].clone()).collect();
    assert_eq!((&chains[0], &chains[1]), (&Value::from("edge"), &Value::Null));
    go_on(&mut talks, "denied");

    // configured, and elsewhere in the chain
    mill.apply(&(guard(&mill.file("deny-list"), NOTHING) + &chain("edge", "{}", "after: policy")));
    mill.await_answers();
    assert_eq!(mill.order("east")[3], "guard");
    assert_eq!(mill.stage("east", "guard")["filter"]["number"], 2, "it was configured, once");
    go_on(&mut talks, "configured");

    // another module, out of a ConfigMap
    let map = "configMap: {namespace: net, name: modules, key: other.wasm}";
    let rates = r#"{"flows_per_second": 1000000, "burst": 1000000}"#;
    let other = guard(map, rates) + &config_map("rate-limit");
    mill.apply(&(other + &chain("edge", "{}", "after: policy")));
    until(|| (mill.stage("east", "guard")["filter"]["filter"] == "rate-limit").then_some(()));
    assert_eq!(mill.stage("east", "guard")["filter"]["number"], 3);
    mill.await_answers();
    go_on(&mut talks, "swapped");

    let status = mill.0.done(&["exec", "node:east", "--", crate::bed::MILLRACE, "status"]);
    assert!(status.contains("(FilterChain edge)"), "{status}");
    mill.apply("");
    until(|| (mill.order("east") == built_in).then_some(()));
    go_on(&mut talks, "over");
}

#[test]
fn two_nodes_have_two_chains_and_a_change_of_one_is_no_change_of_the_other() {
    let Some(mill) = Mill::open() else { return };
    let filters = |config| {
        let one = guard(&mill.file("deny-list"), config);
        let other = one.replace("name: guard", "name: watch").replace(config, NOTHING);
        one + &other
    };
    let chains = chain("of-east", "{zone: a}", "before: bridge")
        + &chain("of-west", "{zone: b}", "after: router").replace("guard", "watch");
    mill.apply(&(filters(NOTHING) + &chains));
    mill.await_filter("east", "guard", "inForce");
    mill.await_filter("west", "watch", "inForce");
    mill.await_filter("east", "watch", "unused");
    assert_eq!(mill.order("east")[0], "guard");
    assert_eq!(mill.order("west")[4], "watch");
    assert_eq!(mill.resources("west")["filterChains"]["of-east"]["state"], "elsewhere");

    mill.apply(&(filters(NO_UDP) + &chains));
    mill.await_silence();
    assert_eq!(mill.stage("east", "guard")["filter"]["number"], 2);
    assert_eq!(mill.stage("west", "watch")["filter"]["number"], 1);

    // one for all nodes that goes first
    let all = chain("all", "{}", "after: policy").replace("spec: {", "spec: {priority: 1, ");
    mill.apply(&(filters(NO_UDP) + &chains + &all));
    mill.await_filter("west", "guard", "inForce");
    assert_eq!(mill.order("east")[3], "guard");
    assert_eq!(mill.order("west")[3], "guard");
    let standing = &mill.resources("west")["filterChains"]["of-west"];
    assert_eq!(standing["state"], "overridden");
    let problem = standing["problems"][0].as_str().expect("it is told");
    assert!(problem.contains("`all` is for this node, too"), "{problem}");
}

#[test]
fn a_module_that_cannot_be_had_is_named_and_the_last_good_one_stays() {
    let Some(mill) = Mill::open() else { return };
    let file = mill.folder().join("guard.wasm");
    let source = format!("file: {}", file.display());
    let skip = guard(&source, NO_UDP) + &chain("edge", "{}", "before: bridge");
    mill.apply(&skip);
    mill.await_filter("east", "guard", "missing");
    // the chain does without it
    mill.await_answers();
    let problem = mill.problem("guard");
    assert!(problem.contains("guard.wasm: No such file"), "{problem}");

    mill.apply(&skip.replace("spec: {source", "spec: {onMissing: closed, source"));
    mill.await_filter("east", "guard", "closed");
    mill.await_silence();

    // a file is looked at without anything else that changes
    fs::write(&file, module("deny-list")).expect("the folder is there");
    mill.await_filter("east", "guard", "inForce");
    assert!(!mill.is_answered(), "it denies this");
    let digest = mill.resources("east")["filters"]["guard"]["digest"].clone();

    fs::write(&file, "no module").expect("the folder is there");
    mill.await_filter("east", "guard", "behind");
    let problem = mill.problem("guard");
    assert!(problem.contains("the module is refused"), "{problem}");
    assert!(problem.ends_with("the filter before stays in force"), "{problem}");
    assert_eq!(mill.resources("east")["filters"]["guard"]["digest"], digest);
    assert!(!mill.is_answered(), "it still denies this");

    fs::write(&file, module("deny-list")).expect("the folder is there");
    mill.await_filter("east", "guard", "inForce");
    mill.apply(&(guard(&source, r#"{"rules": 7}"#) + &chain("edge", "{}", "before: bridge")));
    mill.await_filter("east", "guard", "behind");
    assert!(!mill.is_answered(), "it has the configuration of before");
}

#[test]
fn a_version_that_fails_too_often_gives_way_to_the_one_before_which_is_what_is_in_force() {
    let Some(mill) = Mill::open() else { return };
    let chain = chain("edge", "{}", "before: bridge");
    mill.apply(&(guard(&mill.file("deny-list"), NO_UDP) + &chain));
    mill.await_filter("east", "guard", "inForce");
    mill.await_silence();
    let good = mill.resources("east")["filters"]["guard"]["digest"].clone();

    // its first document is a ConfigMap with a module that traps whatever it is asked
    let (map, _) = TRAP.split_once("---").expect("there are others");
    let trap = "configMap: {namespace: default, name: trap, key: trap.wasm}";
    // the second time with another configuration, which is not that of the version in force; and again by an
    // agent that knows of the version before from the last one alone
    for (config, is_new) in [(NO_UDP, false), (NOTHING, false), (NOTHING, true)] {
        mill.apply(&format!("{map}\n---\n{}{chain}", guard(trap, config)));
        if is_new {
            mill.0.done(&["restart", "east", "--kill"]);
        }
        until(|| {
            assert!(!mill.is_answered(), "both drop this");
            let standing = mill.resources("east")["filters"]["guard"].clone();
            (standing["state"] == "failed").then_some(())
        });
        let standing = mill.resources("east")["filters"]["guard"].clone();
        assert_eq!(standing["digest"], good, "{standing}");
        assert_eq!(mill.stage("east", "guard")["filter"]["filter"], "deny-list");
        assert!(mill.problem("guard").contains("the version before is in force"), "{standing}");
    }
    assert!(!mill.is_answered(), "it has the configuration of before");

    // what it went back to by itself, and then another one
    mill.apply(&(guard(&mill.file("deny-list"), NO_UDP) + &chain));
    mill.await_filter("east", "guard", "inForce");
    assert!(!mill.is_answered());
    mill.apply(&(guard(&mill.file("deny-list"), NOTHING) + &chain));
    mill.await_filter("east", "guard", "inForce");
    mill.await_answers();
}

#[test]
fn a_new_agent_has_the_same_chain_from_the_start_and_connections_go_on() {
    let Some(mill) = Mill::open() else { return };
    mill.apply(&(guard(&mill.file("deny-list"), NO_UDP) + &chain("edge", "{}", "before: bridge")));
    mill.await_filter("east", "guard", "inForce");
    mill.await_silence();
    let mut talks = mill.talks();
    for arguments in [&["restart", "east"][..], &["restart", "east", "--kill"]] {
        mill.0.done(arguments);
        mill.await_filter("east", "guard", "inForce");
        assert_eq!(mill.order("east")[0], "guard");
        assert!(!mill.is_answered());
        go_on(&mut talks, "again");
    }

    // what is not to be had any more was kept
    fs::remove_file(mill.folder().join("deny-list.wasm")).expect("it is there");
    mill.await_filter("east", "guard", "behind");
    mill.0.done(&["restart", "east", "--kill"]);
    mill.await_filter("east", "guard", "behind");
    assert!(mill.problem("guard").contains("No such file"), "{}", mill.problem("guard"));
    assert!(!mill.is_answered());
    go_on(&mut talks, "still");
}

#[test]
fn connections_that_a_filter_looks_into_go_on_with_a_new_agent_and_so_do_new_ones() {
    let Some(mill) = Mill::open() else { return };
    let file = mill.folder().join("curious.wasm");
    fs::write(&file, curious()).expect("the folder is there");
    let source = format!("file: {}", file.display());
    mill.apply(&(guard(&source, "{}") + &chain("edge", "{}", "before: bridge")));
    mill.await_filter("east", "guard", "inForce");
    let shown = || mill.stage("east", "guard")["counters"]["shown"].as_u64().expect("a number");
    let mut talks = mill.talks();
    go_on(&mut talks, "looked into");
    assert!(shown() >= 4 * talks.len() as u64, "{}", shown());
    for arguments in [&["restart", "east"][..], &["restart", "east", "--kill"]] {
        let done = AtomicBool::new(false);
        let mut said = 0;
        thread::scope(|scope| {
            let restarting = scope.spawn(|| {
                mill.0.done(arguments);
                done.store(true, Ordering::Release);
            });
            // a word that is lost with the process is said again by TCP
            while !done.load(Ordering::Acquire) {
                go_on(&mut talks, "meanwhile");
                said += 1;
            }
            restarting.join().expect("it restarts");
        });
        assert!(said > 0);
        mill.await_filter("east", "guard", "inForce");
        let before = shown();
        go_on(&mut talks, "again");
        assert!(shown() >= before + 2 * talks.len() as u64, "it looks into them as before");
        go_on(&mut mill.talks(), "anew");
    }
}

/// Two nodes, a client and a server on one, and a server on the other.
struct Mill(Bed);

impl Mill {
    fn open() -> Option<Self> {
        let nodes = NODES
            .replace("name: east", "name: east\n  labels: {zone: a}")
            .replace("name: west", "name: west\n  labels: {zone: b}");
        let pod = |(name, node): (&str, &str)| {
            format!(
                "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, \
                 spec: {{nodeName: {node}, containers: [{{name: server, image: none}}]}}}}\n---\n"
            )
        };
        let pods = [("client", "east"), ("near", "east"), ("far", "west")].map(pod).concat();
        Some(Self(Bed::of(&[("nodes.yaml", &nodes), ("pods.yaml", &pods)], &[])?))
    }

    fn folder(&self) -> PathBuf {
        self.0.manifests.path().to_owned()
    }

    /// Has these be the filters and chains of the cluster.
    fn apply(&self, filters: &str) {
        self.0.write(&[("filters.yaml", filters)]);
        self.0.done(&["apply", &self.0.folder()]);
    }

    /// A file of all nodes that has this filter.
    fn file(&self, filter: &str) -> String {
        let path = self.folder().join(format!("{filter}.wasm"));
        fs::write(&path, module(filter)).expect("the folder is there");
        format!("file: {}", path.display())
    }

    /// Connections of the client to both servers, of both families.
    fn talks(&self) -> Vec<Talk> {
        let (client, _) = self.0.pod("client");
        let servers = ["near", "far"].map(|name| self.0.pod(name).1).concat();
        let to = |address| SocketAddr::new(address, ECHO);
        servers.into_iter().map(|it| Talk::open(&client, to(it)).expect("it is open")).collect()
    }

    /// Waits until datagrams to the server beside the client are answered, of both families.
    fn await_answers(&self) {
        until(|| self.is_answered().then_some(()));
    }

    /// Waits until some are not.
    fn await_silence(&self) {
        until(|| (!self.is_answered()).then_some(()));
    }

    /// Whether both are answered, and soon.
    fn is_answered(&self) -> bool {
        let (client, _) = self.0.pod("client");
        let (_, servers) = self.0.pod("near");
        let to = |address| SocketAddr::new(address, ECHO);
        servers.into_iter().all(|it| ask_within(SOON, &client, to(it)).is_ok())
    }

    fn resources(&self, node: &str) -> Value {
        self.0.asked(node, &["status"])["resources"].clone()
    }

    fn problem(&self, filter: &str) -> String {
        let standing = self.resources("east")["filters"][filter].clone();
        standing["problems"][0].as_str().expect("there is a problem").to_owned()
    }

    fn await_filter(&self, node: &str, filter: &str, state: &str) {
        until(|| (self.resources(node)["filters"][filter]["state"] == state).then_some(()));
    }

    fn stages(&self, node: &str) -> Vec<Value> {
        self.0.asked(node, &["filter", "list"]).as_array().expect("a list").clone()
    }

    fn stage(&self, node: &str, name: &str) -> Value {
        let stages = self.stages(node);
        stages.into_iter().find(|stage| stage["name"] == name).expect("it is in the chain")
    }

    fn order(&self, node: &str) -> Vec<String> {
        let name = |stage: &Value| stage["name"].as_str().expect("a text").to_owned();
        self.stages(node).iter().map(name).collect()
    }
}

fn go_on(talks: &mut [Talk], word: &str) {
    for talk in talks {
        assert_eq!(talk.say(word).expect("it goes on").text, word);
    }
}

fn guard(source: &str, config: &str) -> String {
    format!(
        "{{apiVersion: millrace.dev/v1alpha1, kind: Filter, metadata: {{name: guard}}, \
         spec: {{source: {{{source}}}, config: {config}}}}}\n---\n"
    )
}

/// A chain with the guard, for nodes with these labels.
fn chain(name: &str, nodes: &str, place: &str) -> String {
    format!(
        "{{apiVersion: millrace.dev/v1alpha1, kind: FilterChain, metadata: {{name: {name}}}, \
         spec: {{nodeSelector: {{matchLabels: {nodes}}}, \
         stages: [{{filter: guard, {place}}}]}}}}\n---\n"
    )
}

fn config_map(filter: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: modules, namespace: net, \
         labels: {{millrace.dev/filters: modules}}}}, binaryData: {{other.wasm: {}}}}}\n---\n",
        BASE64.encode(module(filter))
    )
}

fn module(filter: &str) -> &'static [u8] {
    millrace_builtin::find(filter).expect("it is an example").bytes
}

/// A module that looks into all packets of all flows, and lets them pass.
fn curious() -> Vec<u8> {
    let decision = "(i32.add (local.get $out) (i32.mul (local.get $i) (i32.const 128)))";
    let (fields, inspect) = (offset_of!(Decision, fields), offset_of!(Decision, inspect));
    let inspected = Field::Inspect as u16;
    let text = format!(
        r#"(module
        (@custom "millrace" "{{\"abi\":1,\"name\":\"curious\",\"hooks\":[\"flow\",\"packet\"],\"capabilities\":[\"inspect\"]}}")
        (memory (export "memory") 16)
        (global $free (mut i32) (i32.const 1024))
        (func (export "millrace_alloc") (param $len i32) (result i32) (local $at i32)
            (local.set $at (global.get $free))
            (global.set $free (i32.and (i32.const -16)
                (i32.add (i32.const 15) (i32.add (local.get $at) (local.get $len)))))
            (local.get $at))
        (func (export "millrace_configure") (param i32 i32) (result i32) (i32.const 0))
        (func (export "millrace_packet") (param i32 i32 i32) (result i32) (i32.const 0))
        (func (export "millrace_flow") (param $slots i32) (param $out i32) (param $n i32) (result i32)
            (local $i i32)
            (block $done (loop $next
                (br_if $done (i32.ge_u (local.get $i) (local.get $n)))
                (i32.store16 offset={fields} {decision}
                    (i32.or (i32.load16_u offset={fields} {decision}) (i32.const {inspected})))
                (i32.store16 offset={inspect} {decision} (i32.const {INSPECT_ALL}))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br $next)))
            i32.const 0))"#
    );
    wat::parse_str(text).expect("it is right WebAssembly text")
}

const TRAP: &str = include_str!("../../../../tests/cluster/manifests/trap.yaml");
const NO_UDP: &str = r#"{"rules": [{"protocol": "udp"}]}"#;
const NOTHING: &str = r#"{"rules": []}"#;
/// How long an answer may take that is not expected.
const SOON: Duration = Duration::from_millis(300);
