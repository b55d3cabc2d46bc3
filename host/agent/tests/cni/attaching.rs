//! ADD and DEL: containers that come and go.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use millrace_netns::Namespace;
use serde_json::{Value, json};

use crate::bed::{Bed, Container};

#[test]
fn c1_containers_that_are_added_reach_each_other_and_the_result_says_what_they_got() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let (one, two) = (Container::new(), Container::new());
    let results = [bed.add(&one), bed.add(&two)];
    for (container, result) in [&one, &two].into_iter().zip(&results) {
        let said = result["ips"].as_array().expect("a list");
        let said: Vec<_> = said.iter().filter_map(|ip| ip["address"].as_str()).collect();
        assert_eq!(said, container.addresses("eth0"));
        assert_eq!(said.len(), 2, "one of each family");
        let inside = &result["interfaces"][1];
        assert_eq!(inside["sandbox"], json!(container.namespace.path()));
        let link = container.namespace.netlink().and_then(|net| net.link("eth0"));
        let link = link.expect("it is there");
        assert_eq!(inside["mtu"], link.mtu);
        assert_eq!(inside["mac"], mac(link.mac.expect("it has one")));
        let port = result["interfaces"][0]["name"].as_str().expect("a name").to_owned();
        assert!(bed.ports().contains(&port));
    }
    for (from, to, result) in [(&one, &two, &results[1]), (&two, &one, &results[0])] {
        for ip in result["ips"].as_array().expect("a list") {
            let address = ip["address"].as_str().and_then(|it| it.split('/').next());
            let address = address.and_then(|it| it.parse().ok()).expect("an address");
            assert_eq!(talk(&from.namespace, &to.namespace, address), "hello");
        }
    }

    bed.del(&one);
    assert_eq!(bed.ports().len(), 1);
    assert!(one.namespace.netlink().and_then(|net| net.link("eth0")).is_err());
    bed.del(&two);
    assert_eq!(bed.ports(), [""; 0]);
}

#[test]
fn n14_a_pod_whose_manifest_is_late_is_attached_once_it_has_come() {
    let Some(bed) = Bed::new() else { return };
    bed.remove("pod.yaml");
    let _agent = bed.start();
    let container = Container::new();
    thread::scope(|scope| {
        let added = scope.spawn(|| bed.add(&container));
        bed.write(
            "pod.yaml",
            "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, \
             spec: {nodeName: here, containers: [{name: c}]}}",
        );
        added.join().expect("it is attached");
    });
    let log = bed.log();
    assert!(!log.contains("has not told of it"), "{log}");
    assert_eq!(bed.ports().len(), 1);
}

#[test]
fn c4_an_attachment_is_made_once_and_others_of_the_container_and_the_pod_are_others() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    // both are the same pod: one is taken down while the next is made
    let (former, next) = (Container::new(), Container::new());
    let first = bed.add(&former);
    let again = bed.call("ADD", Some(&former)).refused();
    assert_eq!(again["code"], 101, "{again}");
    assert_eq!(former.addresses("eth0").len(), 2, "as it was");

    let second = bed.call("ADD", Some(&former)).with("CNI_IFNAME", "net1").done();
    let third = bed.add(&next);
    let addresses: BTreeSet<_> =
        [&first, &second, &third].map(|it| it["ips"][0]["address"].to_string()).into();
    assert_eq!(addresses.len(), 3, "each has its own");

    bed.del(&former);
    assert_eq!(former.addresses("net1").len(), 2, "the other stays");
    assert_eq!(next.addresses("eth0").len(), 2, "its successor stays");
    assert_eq!(bed.ports().len(), 2);
}

#[test]
fn c5_del_is_silent_for_what_is_gone_and_containers_come_and_go_at_once() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let stranger = Container::new();
    bed.del(&stranger);
    let gone = Container::new();
    bed.add(&gone);
    let without = bed.call("DEL", Some(&gone)).with("CNI_NETNS", "");
    drop(gone.namespace);
    assert_eq!(without.make().silent(), Ok(()));
    assert_eq!(without.make().silent(), Ok(()), "again");
    assert_eq!(bed.ports(), [""; 0]);

    // three times as many as there are addresses, in all
    for _ in 0..3 {
        let containers: Vec<_> = (0..60).map(|_| Container::new()).collect();
        let all = |work: fn(&Bed, &Container)| {
            thread::scope(|scope| {
                for some in containers.chunks(10) {
                    scope.spawn(|| some.iter().for_each(|container| work(&bed, container)));
                }
            });
        };
        all(|bed, container| drop(bed.add(container)));
        let addresses: BTreeSet<_> =
            containers.iter().flat_map(|it| it.addresses("eth0")).collect();
        assert_eq!(addresses.len(), 120);
        all(Bed::del);
        assert_eq!(bed.ports(), [""; 0]);
    }
}

#[test]
fn c8_what_plugins_before_have_made_stays_in_the_result_and_a_bandwidth_is_kept_to() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let container = Container::new();
    let before = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "other0", "sandbox": container.namespace.path()}],
        "ips": [{"address": "192.0.2.7/24", "interface": 0}],
    });
    let limits = json!({"bandwidth": {"ingressRate": 8_000_000, "egressRate": 4_000_000}});
    let call = bed.call("ADD", Some(&container)).configured("prevResult", before.clone());
    let result = call.configured("runtimeConfig", limits).done();
    assert_eq!(result["interfaces"][0], before["interfaces"][0]);
    assert_eq!(result["ips"][0], before["ips"][0]);
    assert_eq!(result["ips"][1]["interface"], 2);
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    let port = result["interfaces"][1]["name"].as_str().expect("a name");
    for (namespace, link) in [(&bed.node, port), (&container.namespace, "eth0")] {
        let link = namespace.netlink().and_then(|net| net.link(link)).expect("it is there");
        assert!(link.shaped, "{link:?}");
    }
    bed.del(&container);
}

/// Greets over TCP; what was heard.
fn talk(from: &Namespace, to: &Namespace, address: IpAddr) -> String {
    let listener = listen(to, (address, 0).into());
    let at = listener.local_addr().expect("it is bound");
    greet(from, listener, at)
}

/// A server in a container.
pub(crate) fn listen(container: &Namespace, at: SocketAddr) -> TcpListener {
    let listener = container.run(|| TcpListener::bind(at)).expect("entered");
    listener.expect("the address is there")
}

/// What a server hears that is reached at this place.
pub(crate) fn greet(from: &Namespace, listener: TcpListener, at: SocketAddr) -> String {
    let greeting = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it ends");
        text
    });
    let stream = from.run(|| TcpStream::connect(at)).expect("entered");
    let mut stream = stream.expect("it is reached");
    stream.write_all(b"hello").expect("it is connected");
    drop(stream);
    greeting.join().expect("it has heard")
}

fn mac(octets: [u8; 6]) -> Value {
    json!(octets.map(|octet| format!("{octet:02x}")).join(":"))
}
