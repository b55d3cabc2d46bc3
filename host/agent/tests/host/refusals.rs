//! What cannot be, and how that is said: what, why, and what to do.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::bed::{Bed, MILLRACE, another, refusal};
use crate::http;

#[test]
fn a_host_that_cannot_start_says_why() {
    let Some(bed) = Bed::new(1) else { return };
    let text = |name: &str, text: &str| {
        fs::write(bed.path(name), text).expect("the folder can be written");
        bed.path(name).display().to_string()
    };
    let config = format!("--config={}", text("bad.yaml", "workers: 1\nprots: []\n"));
    let module = format!("--filter=x={}", text("no.wasm", "this is a text"));
    let socket = format!("--socket={}/m.sock", text("file", ""));
    let missing = format!("--filter=x={}", bed.path("missing.wasm").display());
    let port = "--port=veth-a";
    for (flags, complaints) in [
        (&["--port=eth7"][..], &["port `eth7`", "no link `eth7`", "`veth-a`"][..]),
        (&["--port=lo"], &["port `lo`", "carries no Ethernet frames"]),
        (&[port, port], &["`veth-a` is a port already"]),
        (&[&config], &["bad.yaml", "line 2", "unknown field `prots`"]),
        (&["--config=nowhere.yaml"], &["nowhere.yaml", "No such file"]),
        (&[&socket], &["m.sock", "Not a directory", "name another path with `--socket`"]),
        (&["--socket=/sys/m.sock"], &["/sys/m.sock", "cannot be used", "with `--socket`"]),
        (&[&module], &["filter `x`", "the module is refused"]),
        (&[&missing], &["filter `x`", "missing.wasm", "No such file"]),
        (&[r#"--filter=bridge:{"agin_seconds": 1}"#], &["filter `bridge`", "agin_seconds"]),
        (&[port, "--zero-copy"], &["`--zero-copy`", "driver of `veth-a`"]),
        (&["--workers=65"], &["1 to 64 workers, not 65"]),
        (&["--workers=2", port], &["1 receive queues for 2 workers", "ethtool -L veth-a"]),
        (&["--log=loud=quiet=x"], &["--log"]),
        (&["--metrics=192.0.2.1:1"], &["metrics at 192.0.2.1:1"]),
    ] {
        let said = bed.fails(flags);
        assert!(said.starts_with("millrace: ") && said.lines().count() == 1, "{flags:?}: {said}");
        for complaint in complaints {
            assert!(said.contains(complaint), "{flags:?} lacks {complaint:?}: {said}");
        }
    }
    assert!(!bed.path("millrace.sock").exists());
}

#[test]
fn an_mtu_that_does_not_fit_is_refused_with_the_one_that_does() {
    let Some(bed) = Bed::new(1) else { return };
    bed.namespace.netlink().expect("netlink works").set_mtu("veth-a", 9000).expect("it fits");
    let said = bed.fails(&["--port=veth-a"]);
    let limit = 4096 - 256 - 14 - 8;
    assert!(said.contains("`veth-a` has an MTU of 9000"), "{said}");
    assert!(said.contains(&format!("ip link set dev veth-a mtu {limit}")), "{said}");
}

#[test]
fn missing_privileges_are_named() {
    // who has few cannot give up the others
    let Some(_) = Bed::new(0) else { return };
    for (kept, named) in [
        ("-all", &["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN", "CAP_BPF", "as root"][..]),
        ("-net_admin", &["lacks CAP_NET_ADMIN (to attach XDP programs);"]),
    ] {
        let mut less = Command::new("setpriv");
        less.args([&format!("--bounding-set={kept}"), MILLRACE, "run", "--port=lo"]);
        let said = refusal(&less.output().expect("setpriv can be run"), 1);
        assert!(named.iter().all(|name| said.contains(name)), "{said}");
    }
}

#[test]
fn a_wrong_command_line_is_told_apart_from_what_fails() {
    for (arguments, complaint) in [
        (&["rum"][..], "similar subcommand exists: 'run'"),
        (&["run", "--prot=a"], "similar argument exists: '--port'"),
        (&["run", "--filter=brigde"], "did you mean `bridge`?"),
        (&["filter", "load", "x", "denylist"], "did you mean `deny-list`?"),
        (&["filter", "mode", "x", "shade"], "`shade` is not one of `enforce`, `shadow`"),
        (&["filter", "canary", "start", "x", "100", "bridge"], "100 is not in 1..=99"),
        (&["filter", "move", "x", "--first", "--last"], "cannot be used with '--last'"),
        (&["port", "add", "a,kind=pond"], "`pond` is no kind of port"),
        (&["status", "-o", "yaml"], "possible values: table, json"),
    ] {
        let output = Command::new(MILLRACE).args(arguments).output().expect("it is built");
        let said = refusal(&output, 2);
        assert!(said.contains(complaint), "{arguments:?}: {said}");
    }
}

#[test]
fn a_running_host_refuses_what_cannot_be_and_stays_as_it_was() {
    let Some(bed) = Bed::new(2) else { return };
    let host = bed.run(&["--filter=bridge"]);
    fs::write(bed.path("no.wasm"), "this is a text").expect("the folder can be written");
    let no_module = bed.path("no.wasm").display().to_string();
    let v2 = another("bridge", bed.folder.path()).display().to_string();
    for (arguments, complaints) in [
        (&["filter", "swap", "brigde", "bridge"][..], &["no stage `brigde`", "mean `bridge`?"][..]),
        (&["filter", "remove", "x"], &["there is no stage `x`; there are: `bridge`"]),
        (&["filter", "logs", "x"], &["there is no stage `x`"]),
        (&["filter", "table", "x"], &["there is no stage `x`"]),
        (&["filter", "move", "bridge", "--before", "x"], &["there is no stage `x`"]),
        (&["filter", "table", "bridge", "station"], &["no map `station`, but `stations`"]),
        (&["filter", "load", "bridge", "bridge"], &["a stage `bridge` already"]),
        (&["filter", "load", "a b", "bridge"], &["`a b` is no name for a stage"]),
        (&["filter", "load", "x", &no_module], &["the module is refused"]),
        (&["filter", "load", "x", "nowhere.wasm"], &["nowhere.wasm", "No such file"]),
        (&["filter", "swap", "bridge", &no_module], &["the module is refused"]),
        (&["filter", "swap", "bridge", &v2, "--config", r#"{"x": 1}"#], &["unknown", "`x`"]),
        (&["filter", "configure", "bridge", r#"{"aging_seconds": 0}"#], &["at least 1", "stays"]),
        (&["filter", "rollback", "bridge"], &["`bridge` has no version before"]),
        (&["filter", "canary", "promote", "bridge"], &["`bridge` tries no other version"]),
        (&["port", "remove", "veth-x"], &["no port `veth-x`", "there are: `veth-a`, `veth-b`"]),
        (&["port", "add", "eth7"], &["no link `eth7`"]),
    ] {
        let said = host.refuses(arguments);
        for complaint in complaints {
            assert!(said.contains(complaint), "{arguments:?} lacks {complaint:?}: {said}");
        }
    }
    let chain = host.json(&["filter", "list"]);
    assert_eq!(chain.as_array().map(Vec::len), Some(1));
    assert_eq!((&chain[0]["filter"]["number"], &chain[0]["previous"]), (&json!(1), &json!(null)));
    assert!(bed.pods[0].pings(&bed.pods[1]));
}

#[test]
fn requests_that_are_wrong_get_a_status_and_a_sentence() {
    let Some(bed) = Bed::new(1) else { return };
    let host = bed.run(&["--filter=bridge"]);
    for (method, path, body, status, sentence) in [
        ("GET", "/v1/nothing", "", 404, "there is no /v1/nothing; API.md lists what there is"),
        ("PATCH", "/v1/status", "", 405, "/v1/status cannot be asked to PATCH"),
        ("POST", "/v1/filters", "{", 400, "the request: EOF while parsing"),
        ("POST", "/v1/filters", r#"{"nam": "x"}"#, 400, "unknown field `nam`"),
        ("POST", "/v1/ports", r#"{"name": "a", "kind": "pond"}"#, 400, "`pond` is no kind of port"),
        ("PUT", "/v1/filters/x/mode", r#""shadow""#, 404, "there is no stage `x`"),
        ("PUT", "/v1/filters/bridge/mode", r#""shade""#, 400, "unknown variant `shade`"),
        ("POST", "/v1/filters/bridge/rollback", "", 409, "no version before this one"),
        ("PUT", "/v1/filters/bridge/config", r#"{"stations": -1}"#, 422, "stays in force"),
        ("GET", "/v1/filters/bridge/logs?since=3", "", 400, "unknown field `since`"),
        ("GET", "/v1/filters/bridge/maps?limit=x", "", 400, "limit"),
        (
            "PUT",
            "/v1/filters/bridge/module",
            r#"{"module": {"builtIn": "brigde"}}"#,
            404,
            "there is no built-in filter `brigde`; did you mean `bridge`?",
        ),
        (
            "PUT",
            "/v1/filters/bridge/canary",
            r#"{"percent": 0, "module": {"builtIn": "bridge"}}"#,
            400,
            "1 to 99 of a hundred flows, not on 0",
        ),
        (
            "PUT",
            "/v1/filters/bridge/module",
            r#"{"module": {"wasm": "no base 64"}}"#,
            400,
            "no Base64",
        ),
    ] {
        let (answered, said) = http::ask(&host.socket, method, path, body);
        let said: serde_json::Value = serde_json::from_str(&said).expect("refusals are JSON too");
        let said = said["error"].as_str().expect("a sentence");
        assert!(
            answered == status && said.contains(sentence),
            "{method} {path}: {answered} {said}"
        );
    }
}
