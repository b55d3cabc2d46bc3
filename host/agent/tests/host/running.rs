//! A host from start to end.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use millrace_netns::Namespace;
use rustix::process::Signal;
use serde_json::Value;

use crate::bed::Bed;

/// Whether an XDP program is on an interface.
fn has_program(namespace: &Namespace, interface: &str) -> bool {
    let mut ip = namespace.command("ip");
    let output = ip.args(["-json", "link", "show", "dev", interface]).output().expect("it runs");
    let links: Value = serde_json::from_slice(&output.stdout).expect("it writes JSON");
    assert_eq!(links[0]["ifname"], interface);
    !links[0]["xdp"].is_null()
}

#[test]
fn pods_talk_while_a_host_runs_and_it_leaves_nothing_behind() {
    let Some(bed) = Bed::new(2) else { return };
    let [a, b] = &bed.pods[..] else { unreachable!("there are two") };
    assert!(a.is_cut_off_from(b));

    let mut host = bed.run(&["--filter=bridge"]);
    assert_eq!(
        host.words.trim_end(),
        format!(
            "forwarding between veth-a, veth-b through bridge; admin socket {}",
            host.socket.display()
        )
    );
    assert!(a.pings(b) && b.pings(a));
    let mode = fs::metadata(&host.socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(has_program(&bed.namespace, "veth-a"));

    host.signal(Signal::TERM);
    assert_eq!(host.wait().code(), Some(0), "{}", host.log());
    assert!(!host.socket.exists());
    assert!(!has_program(&bed.namespace, "veth-a") && !has_program(&bed.namespace, "veth-b"));
}

#[test]
fn a_killed_host_leaves_no_program_and_its_socket_is_taken_over() {
    let Some(bed) = Bed::new(2) else { return };
    let mut killed = bed.run(&["--filter=bridge"]);
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(killed.socket.exists() && !has_program(&bed.namespace, "veth-a"));
    let refused = killed.refuses(&["status"]);
    assert!(
        refused.contains("no host answers at") && refused.contains("millrace run"),
        "{refused}"
    );

    let next = bed.run(&["--filter=bridge"]);
    assert!(bed.pods[0].pings(&bed.pods[1]));
    assert!(next.log().contains("taking over the socket of a host that died"), "{}", next.log());
}

#[test]
fn a_second_host_at_the_same_socket_is_refused_and_the_first_one_goes_on() {
    let Some(bed) = Bed::new(2) else { return };
    let host = bed.run(&["--filter=bridge"]);
    let refused = bed.fails(&["--port=veth-a", "--filter=bridge"]);
    let socket = host.socket.display();
    assert!(refused.starts_with(&format!("millrace: the admin socket {socket}: ")), "{refused}");
    assert!(refused.contains("another host answers there"), "{refused}");
    assert_eq!(host.json(&["status"])["pid"], host.pid());
    assert!(bed.pods[0].pings(&bed.pods[1]));
}

#[test]
fn a_file_says_the_same_as_flags_and_flags_go_before_it() {
    let Some(bed) = Bed::new(2) else { return };
    let file = bed.path("millrace.yaml");
    fs::write(
        &file,
        "ports: [{name: nowhere}]\n\
         filters:\n\
         - name: deny\n  \
           module: deny-list\n  \
           config: {rules: [{protocol: udp, port: 9}]}\n  \
           terms: {ports: [veth-b], kinds: [uplink], onFault: open, mode: shadow}\n\
         - {name: switch, module: bridge, config: ./bridge.json}\n\
         burst: 32\n\
         log: warn\n",
    )
    .expect("the folder can be written");
    fs::write(bed.path("bridge.json"), r#"{"aging_seconds": 60}"#).expect("it can be written");
    let file = format!("--config={}", file.display());

    let mut host = bed.run(&[&file, "--log=debug"]);
    assert!(bed.pods[0].pings(&bed.pods[1]));
    let chain = host.json(&["filter", "list"]);
    let names = chain.as_array().expect("a list").iter().map(|stage| &stage["name"]);
    assert_eq!(names.collect::<Vec<_>>(), ["deny", "switch"]);
    assert_eq!((&chain[0]["mode"], &chain[0]["onFault"]), (&"shadow".into(), &"open".into()));
    assert_eq!(chain[0]["ports"], serde_json::json!(["veth-b"]));
    assert_eq!(chain[1]["filter"]["config"]["aging_seconds"], 60);

    host.signal(Signal::INT);
    assert_eq!(host.wait().code(), Some(0), "{}", host.log());
    assert!(host.log().contains("SIGINT"), "{}", host.log());
}
