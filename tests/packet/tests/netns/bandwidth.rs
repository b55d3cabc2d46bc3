//! Ports whose link limits how fast it sends: F13.

use std::io::ErrorKind;
use std::net::SocketAddr;

use crate::bed::{Bed, Pod, await_some};
use crate::cached::{crossing_at, in_kernel};
use crate::translation::udp;

/// So many bits per second, and so many datagrams of 1,400 bytes: more than a minute's worth.
const RATE: u64 = 1_000_000;
const DATAGRAMS: u32 = 6000;

#[test]
fn f13_the_kernel_sends_to_a_pod_no_faster_than_its_link_may() {
    let mut bed = Bed::cached(1, 2);
    let limited = Pod::new(&bed.host, 2, 1);
    bed.host.netlink().expect("netlink works").shape(&limited.port, RATE).expect("it is taken");
    bed.add_cached(&limited);
    bed.pods.push(limited);
    let bed = crossing_at(bed);
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    client.talks_to(server, server.address, b"the kernel carries this");

    let hits = in_kernel(&bed, "hit");
    let (from, to) = (udp(client, client.address, 0), udp(server, server.address, 5000));
    for socket in [&from, &to] {
        socket.set_nonblocking(true).expect("it can be set");
    }
    let mut arrived = 0;
    for _ in 0..DATAGRAMS {
        // it may be told to wait, or its datagrams are dropped
        let _ = from.send_to(&[0; 1400], to.local_addr().expect("bound"));
        arrived += u32::from(to.recv(&mut [0; 1400]).is_ok());
    }
    assert!(arrived < DATAGRAMS / 10, "{arrived} have arrived meanwhile");
    await_some(|| {
        // once those have left that workers have sent
        let _ = from.send_to(&[0; 1400], to.local_addr().expect("bound"));
        if in_kernel(&bed, "hit") > hits { Ok(()) } else { Err("the kernel does not carry them") }
    });
}

#[test]
fn f13_a_limit_that_comes_while_the_kernel_carries_a_flow_holds_for_it() {
    let bed = crossing_at(Bed::cached(2, 2));
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    client.talks_to(server, server.address, b"the kernel carries this");
    let (from, to) = (udp(client, client.address, 0), udp(server, server.address, 5000));
    for socket in [&from, &to] {
        socket.set_nonblocking(true).expect("it can be set");
    }
    let at = to.local_addr().expect("bound");
    let of_all = |number: u32| {
        let send = || from.send_to(&[0; 1400], at).is_ok() && to.recv(&mut [0; 1400]).is_ok();
        (0..number).filter(|_| send()).count()
    };
    await_some(|| {
        let (hits, arrived) = (in_kernel(&bed, "hit"), of_all(100));
        if in_kernel(&bed, "hit") >= hits + 100 && arrived == 100 { Ok(()) } else { Err(arrived) }
    });
    // as another plugin of the chain does once the pod is attached
    bed.host.netlink().expect("netlink works").shape(&server.port, RATE).expect("it is taken");
    await_some(|| match of_all(200) {
        few if few < 100 => Ok(()),
        many => Err(many),
    });
    let hits = in_kernel(&bed, "hit");
    await_some(|| {
        of_all(10);
        if in_kernel(&bed, "hit") > hits { Ok(()) } else { Err("the kernel has let it go") }
    });
}

#[test]
fn f13_a_pod_sends_no_faster_than_its_link_may() {
    let bed = crossing_at(Bed::cached(2, 2));
    let [client, server] = &bed.pods[..] else { unreachable!("there are two") };
    client.namespace.netlink().expect("netlink works").shape("eth0", RATE).expect("it is taken");
    // what waits for a neighbour is dropped, and nobody is told
    assert!(client.pings(server.address));
    let from = udp(client, client.address, 0);
    from.set_nonblocking(true).expect("it can be set");
    let to = SocketAddr::new(server.address, 5000);
    let refused = (0..DATAGRAMS)
        .filter(|_| match from.send_to(&[0; 1400], to) {
            Ok(_) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                true
            }
        })
        .count();
    assert!(refused > DATAGRAMS as usize / 2, "{refused}");
}
