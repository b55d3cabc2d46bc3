//! The chain changed under traffic: every command, and nothing lost meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use serde_json::{Value, json};

use crate::bed::{Bed, Host, PATIENCE, Pod, another};

/// Datagrams there and back, one at a time, each of which has to come.
struct Echo {
    rounds: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    fn between(a: &Pod, b: &Pod) -> Self {
        let (client, server) = (a.udp(0), b.udp(7));
        client.connect(server.local_addr().expect("bound")).expect("there is a route");
        let (rounds, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (Arc::clone(&rounds), Arc::clone(&end));
        let thread = thread::spawn(move || {
            let mut bytes = [0; 8];
            while !ended.load(Ordering::Relaxed) {
                let round = count.load(Ordering::Relaxed).to_be_bytes();
                client.send(&round).expect("there is a route");
                let (_, from) = server.recv_from(&mut bytes).expect("nothing is lost on the way");
                server.send_to(&bytes, from).expect("there is a route");
                client.recv(&mut bytes).expect("nothing is lost on the way back");
                assert_eq!(bytes, round);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { rounds, end, thread: Some(thread) }
    }

    /// Waits until datagrams sent from now on have come back.
    fn goes_on(&self) {
        let (now, deadline) = (self.rounds.load(Ordering::Relaxed), Instant::now() + PATIENCE);
        while self.rounds.load(Ordering::Relaxed) < now + 3 {
            assert!(Instant::now() < deadline, "nothing comes back");
            thread::yield_now();
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let outcome = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || matches!(outcome, Some(Ok(()))), "a datagram was lost");
    }
}

/// What the bridge has learned: MAC addresses and ports.
fn stations(host: &Host<'_>) -> Vec<Value> {
    let table = host.json(&["filter", "table", "bridge"]);
    let rows = table["rows"].as_array().expect("a list").iter();
    rows.map(|row| json!([row["cells"][1], row["cells"][2]])).collect()
}

fn names(chain: &Value) -> Vec<&str> {
    let stages = chain.as_array().expect("a list").iter();
    stages.map(|stage| stage["name"].as_str().expect("a name")).collect()
}

#[test]
fn every_change_is_made_while_packets_pass_and_none_is_lost() {
    let Some(bed) = Bed::new(2) else { return };
    let host = bed.run(&["--filter=bridge"]);
    let echo = Echo::between(&bed.pods[0], &bed.pods[1]);
    let v2 = another("deny-list", bed.folder.path()).display().to_string();
    let change = |arguments: &[&str]| {
        echo.goes_on();
        let stage = host.json(&[&["filter"], arguments].concat());
        echo.goes_on();
        stage
    };

    let config = r#"{"rules": [{"port": 22}]}"#;
    let loaded = change(&["load", "deny", "deny-list", "--config", config, "--before", "bridge"]);
    assert_eq!((&loaded["position"], &loaded["filter"]["number"]), (&json!(0), &json!(1)));
    assert_eq!(loaded["capabilities"], json!(["drop", "reject"]));

    let swapped = change(&["swap", "deny", &v2]);
    assert_eq!(
        (&swapped["filter"]["number"], &swapped["previous"]["number"]),
        (&json!(2), &json!(1))
    );
    assert_ne!(swapped["filter"]["digest"], loaded["filter"]["digest"]);
    assert_eq!(swapped["filter"]["config"], loaded["filter"]["config"]);

    let back = change(&["rollback", "deny"]);
    assert_eq!((&back["filter"], &back["previous"]), (&loaded["filter"], &Value::Null));

    let configured = change(&["configure", "deny", r#"{"rules": [{"port": 23}]}"#]);
    assert_eq!(configured["filter"]["config"]["rules"], json!([{"port": 23}]));
    assert_eq!(configured["filter"]["digest"], loaded["filter"]["digest"]);

    assert_eq!(change(&["mode", "deny", "shadow"])["mode"], "shadow");
    assert_eq!(change(&["mode", "deny", "enforce"])["mode"], "enforce");

    assert_eq!(change(&["move", "deny", "--last"])["position"], 1);
    assert_eq!(names(&host.json(&["filter", "list"])), ["bridge", "deny"]);
    assert_eq!(change(&["move", "deny", "--before", "bridge"])["position"], 0);

    let tried = change(&["canary", "start", "deny", "50", &v2]);
    assert_eq!(tried["canary"]["percent"], 50);
    assert_eq!(tried["canary"]["digest"], swapped["filter"]["digest"]);
    assert_eq!(tried["filter"]["digest"], loaded["filter"]["digest"]);
    assert_eq!(change(&["canary", "abandon", "deny"])["canary"], Value::Null);
    change(&["canary", "start", "deny", "50", &v2]);
    let promoted = change(&["canary", "promote", "deny"]);
    assert_eq!(promoted["filter"]["digest"], swapped["filter"]["digest"]);
    assert_eq!(promoted["canary"], Value::Null);

    assert_eq!(change(&["remove", "deny"]), json!({"removed": "deny"}));
    assert_eq!(names(&host.json(&["filter", "list"])), ["bridge"]);
}

#[test]
fn what_the_bridge_has_learned_survives_a_swap() {
    let Some(bed) = Bed::new(2) else { return };
    let host = bed.run(&["--filter=bridge"]);
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    assert!(a.pings(b));
    let learned = stations(&host);
    assert_eq!(learned.len(), 2, "{learned:?}");
    for pod in [a, b] {
        let link = pod.namespace.netlink().and_then(|net| net.link("eth0")).expect("it is there");
        let mac =
            link.mac.expect("an Ethernet interface has one").map(|byte| format!("{byte:02x}"));
        assert!(learned.contains(&json!([mac.join(":"), pod.port])), "{learned:?}");
    }

    let flooded = |host: &Host<'_>| {
        let stats = host.json(&["stats"]);
        stats["filters"][0]["counters"]["metrics"]["flooded"].clone()
    };
    let before = flooded(&host);
    let v2 = another("bridge", bed.folder.path()).display().to_string();
    let swapped = host.ask(&["filter", "swap", "bridge", &v2]);
    assert!(swapped.starts_with("PLACE  NAME") && swapped.contains("bridge"), "{swapped}");
    assert!(a.pings(b));
    assert_eq!(stations(&host), learned);
    assert_eq!(flooded(&host), before, "nothing is flooded to stations that are known");
}

#[test]
fn a_deny_rule_takes_effect_at_once_and_the_drop_shows_its_reason() {
    let Some(bed) = Bed::new(2) else { return };
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let host = bed.run(&["--filter=bridge"]);
    let (client, server) = (a.udp(0), b.udp(9));
    client.connect(server.local_addr().expect("bound")).expect("there is a route");
    let arrives = || {
        client.send(b"x").expect("there is a route");
        server.recv(&mut [0]).expect("it arrives")
    };
    arrives();
    assert_eq!(host.ask(&["drops"]), "no packet was dropped\n");
    assert_eq!(host.json(&["drops"]), json!([]));

    let rule = r#"{"rules": [{"protocol": "udp", "port": 9}]}"#;
    host.ask(&["filter", "load", "deny", "deny-list", "--config", rule, "--first"]);
    client.send(b"x").expect("there is a route");
    let drops = host.until(&["drops"], |drops| drops[0]["packets"] == 1);
    assert_eq!(drops[0]["reason"], "denied");
    let rule =
        json!({"id": 1, "name": "denied", "help": "A rule of the list matches.", "packets": 1});
    let place = json!({
        "port": "veth-a",
        "stage": "deny",
        "fate": "dropped",
        "reason": "denied",
        "packets": 1,
        "rules": [rule],
    });
    assert_eq!(drops[0]["places"], json!([place]));
    let table = host.ask(&["drops"]);
    assert!(table.starts_with("denied: 1 packet. A rule says so.\n"), "{table}");
    assert!(a.pings(b), "what no rule names goes on");

    // a shadow only says what it would do
    host.ask(&["filter", "mode", "deny", "shadow"]);
    arrives();
    host.until(&["filter", "list"], |chain| chain[0]["counters"]["shadowStricter"] == 1);
    host.ask(&["filter", "remove", "deny"]);
    arrives();
    assert_eq!(host.json(&["drops"])[0]["packets"], 1);
}

#[test]
fn a_filter_that_fails_too_often_is_rolled_back_and_the_status_says_so() {
    let Some(bed) = Bed::new(2) else { return };
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    let host = bed.run(&["--filter=bridge"]);
    // one that may not drop fails whenever it wants to
    let load = ["filter", "load", "deny", "deny-list", "--first", "--config", r#"{"rules": []}"#];
    host.ask(&[&load[..], &["--grant=reject", "--on-fault=open"]].concat());
    host.ask(&["filter", "configure", "deny", r#"{"rules": [{"port": 9}]}"#]);
    let (client, server) = (a.udp(0), b.udp(9));
    client.connect(server.local_addr().expect("bound")).expect("there is a route");
    host.until(&["filter", "list"], |chain| {
        client.send(b"x").expect("there is a route");
        server.recv(&mut [0]).expect("it fails open");
        chain[0]["state"] == "rolled-back"
    });
    let status = host.ask(&["status"]);
    assert!(status.contains("! filter deny failed too often, and runs in the version before"));
    let listed = host.json(&["filter", "list"]);
    assert_eq!(listed[0]["filter"]["config"], json!({"rules": []}));
    assert_eq!(listed[0]["lastFault"]["class"], "answer");
    assert!(listed[0]["lastFault"]["ageMs"].is_u64(), "{listed:#}");
    assert!(listed[0]["counters"]["faults"]["answer"].as_u64() > Some(5), "{listed:#}");
}
