//! Containers whose network namespaces go before anybody takes them out of the network.

use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};

use crate::bed::{Bed, Container, until};

#[test]
fn a_namespace_that_goes_while_its_port_is_in_use_disturbs_nobody_and_its_place_is_free_again() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let [one, stays, goes] = [(); 3].map(|()| Container::new());
    bed.add(&one);
    let [stays_at, gone_at] = [&stays, &goes].map(|container| address(&bed.add(container)));
    let server = socket(&stays, stays_at, 5000);
    let client = socket(&one, "0.0.0.0".parse().expect("an address"), 0);
    // while the machine has no time for what was sent, there is no room for more
    client.set_nonblocking(false).expect("it is a socket");
    let talks = |to: SocketAddr| {
        let mut byte = [0];
        until(|| {
            client.send_to(b"!", to).expect("there is a route");
            server.recv(&mut byte).ok()
        });
    };
    talks(SocketAddr::new(stays_at, 5000));
    // a flow that the kernel carries, to where nobody listens
    let lost = SocketAddr::new(gone_at, 5000);
    for _ in 0..100 {
        client.send_to(b"!", lost).expect("there is a route");
    }
    let without = bed.call("DEL", Some(&goes)).with("CNI_NETNS", "");
    drop(goes.namespace);
    for _ in 0..100 {
        client.send_to(b"!", lost).expect("there is a route");
        talks(SocketAddr::new(stays_at, 5000));
    }
    until(|| (bed.ports().len() == 2).then_some(()));

    assert_eq!(without.make().silent(), Ok(()));
    let next = Container::new();
    let next_at = address(&bed.add(&next));
    let heard = socket(&next, next_at, 5000);
    let mut byte = [0];
    until(|| {
        client.send_to(b"?", (next_at, 5000)).expect("there is a route");
        heard.recv(&mut byte).ok()
    });
    assert_eq!(byte, *b"?", "and nothing that was for another");
    talks(SocketAddr::new(stays_at, 5000));
    assert_eq!(bed.ports().len(), 3);
}

/// More of them than there are addresses, so that none may be kept.
#[test]
fn c5_a_namespace_that_goes_while_it_is_attached_leaves_nothing_behind() {
    let Some(bed) = Bed::new() else { return };
    let agent = bed.start();
    let mut attached = 0;
    for turn in 0..70 {
        let container = Container::new();
        let add = bed.call("ADD", Some(&container));
        let del = bed.call("DEL", Some(&container)).with("CNI_NETNS", "");
        let begins = Barrier::new(2);
        let outcome = thread::scope(|scope| {
            let adding = scope.spawn(|| {
                begins.wait();
                add.make()
            });
            begins.wait();
            // earlier and later
            (0..turn * 20).for_each(|_| thread::yield_now());
            drop(container.namespace);
            adding.join().expect("it does not panic")
        });
        match outcome.succeeded {
            true => attached += 1,
            false => {
                let refused: Value = serde_json::from_str(&outcome.output).expect("it is JSON");
                assert!(refused["code"].is_u64(), "{refused}");
            }
        }
        assert_eq!(del.make().silent(), Ok(()), "{outcome:?}");
    }
    until(|| bed.ports().is_empty().then_some(()));
    let last = Container::new();
    bed.add(&last);
    assert_eq!(bed.ports().len(), 1, "{attached} were attached: {}", bed.log());
    drop(agent);
}

#[test]
fn c5_a_namespace_that_goes_and_is_never_detached_leaves_its_addresses_to_others() {
    let Some(bed) = Bed::new() else { return };
    let _agent = bed.start();
    let [stays, goes] = [(); 2].map(|()| Container::new());
    bed.add(&stays);
    let gone_at = address(&bed.add(&goes));
    let wanted = json!({"ips": [format!("{gone_at}/26")]});
    let next = Container::new();
    let add = bed.call("ADD", Some(&next)).configured("runtimeConfig", wanted);
    assert_eq!(add.code(), 100, "it is taken");
    drop(goes.namespace);
    until(|| bed.log().contains("its network namespace is gone").then_some(()));
    assert_eq!(address(&add.done()), gone_at);
    assert_eq!(bed.ports().len(), 2, "the other stays");
}

#[test]
fn c5_a_pod_that_is_no_port_after_a_restart_keeps_its_addresses() {
    let Some(bed) = Bed::new() else { return };
    let agent = bed.start();
    let [well, spoiled] = [(); 2].map(|()| Container::new());
    bed.add(&well);
    let kept_at = address(&bed.add(&spoiled));
    agent.kill();
    let path = bed.socket().with_file_name("node.json");
    let mut kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let spoiled_netns = spoiled.namespace.path().display().to_string();
    let attachments = kept["attachments"].as_object_mut().expect("they are there");
    let record = attachments.values_mut().find(|it| it["netns"] == spoiled_netns);
    record.expect("it is remembered")["mac"] = json!("nobody's");
    fs::write(&path, kept.to_string()).unwrap();

    let _agent = bed.start();
    until(|| bed.log().contains("has its addresses, and no port").then_some(()));
    assert_eq!(bed.ports().len(), 2);
    let next = Container::new();
    let wanted = json!({"ips": [format!("{kept_at}/26")]});
    assert_eq!(bed.call("ADD", Some(&next)).configured("runtimeConfig", wanted).code(), 100);
    bed.add(&next);
    bed.del(&spoiled);
    bed.del(&well);
}

/// A container's IPv4 address.
fn address(result: &Value) -> IpAddr {
    let address = result["ips"][0]["address"].as_str().expect("it has one");
    address.split('/').next().and_then(|it| it.parse().ok()).expect("it is an address")
}

/// A socket that hears what there is, and waits for nothing.
fn socket(of: &Container, address: IpAddr, port: u16) -> UdpSocket {
    let socket = of.namespace.run(|| UdpSocket::bind((address, port))).expect("entered");
    let socket = socket.expect("the address is there");
    socket.set_nonblocking(true).expect("it is a socket");
    socket
}
