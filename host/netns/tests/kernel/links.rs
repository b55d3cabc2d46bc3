use millrace_netns::{
    Link, LinkKind, LinkState, NetlinkError, Peer, VethSpec, Vxlan, VxlanMode, VxlanSpec,
};

use crate::ground::{Pair, namespace, network, pings};

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0a];
const PEER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0b];

#[test]
fn a_veth_pair_across_namespaces_is_alike_on_both_ends() {
    let (Some(left), Some(right)) = (namespace("veth"), namespace("veth")) else { return };
    let spec = VethSpec::new("host0", "eth0").peer_namespace(&right).mtu(3400).queues(2);
    let host = left.netlink().unwrap().add_veth(&spec.mac(MAC).peer_mac(PEER_MAC)).unwrap();
    let eth = right.netlink().unwrap().link("eth0").unwrap();

    assert_eq!((host.name.as_str(), host.mac), ("host0", Some(MAC)));
    assert_eq!(eth.mac, Some(PEER_MAC));
    for (end, other) in [(&host, &eth), (&eth, &host)] {
        assert_eq!(end.kind, LinkKind::Veth);
        assert!(end.ethernet && !end.up && !end.carrier);
        assert_eq!((end.mtu, end.rx_queues, end.tx_queues), (3400, 2, 2));
        let peer = end.peer.unwrap();
        assert_eq!(peer.index, other.index);
        assert!(peer.namespace.is_some());
    }
    for (namespace, link) in [(&left, "host0"), (&right, "eth0")] {
        let channels = namespace.ethtool(link).unwrap().channels().unwrap();
        assert_eq!((channels.rx, channels.tx), (2, 2));
    }
}

#[test]
fn a_veth_pair_in_one_namespace_knows_its_peers_without_a_namespace_number() {
    let Some(namespace) = namespace("veth1") else { return };
    let netlink = namespace.netlink().unwrap();
    let a = netlink.add_veth(&VethSpec::new("a", "b")).unwrap();
    let b = netlink.link("b").unwrap();
    assert_eq!(a.peer, Some(Peer { index: b.index, namespace: None }));
    assert_eq!(netlink.link_by_index(b.index).unwrap(), b);
}

#[test]
fn a_ping_crosses_a_veth_pair_in_both_ip_versions() {
    let Some(pair) = Pair::new("ping") else { return };
    assert!(pings(&pair.left, "10.1.0.2"));
    assert!(pings(&pair.right, "fd01::1"));
    let eth = pair.left.netlink().unwrap().link("eth0").unwrap();
    assert!(eth.up && eth.carrier);
    assert_eq!(eth.state, LinkState::Up);
}

#[test]
fn a_link_changes_as_it_is_told() {
    let Some(namespace) = namespace("change") else { return };
    let netlink = namespace.netlink().unwrap();
    let made = netlink.add_veth(&VethSpec::new("old", "peer").mac(MAC)).unwrap();

    netlink.set_mtu("old", 1400).unwrap();
    netlink.set_mac("old", PEER_MAC).unwrap();
    netlink.rename("old", "new").unwrap();
    netlink.set_up("new").unwrap();
    let changed = netlink.link("new").unwrap();
    let expected = Link {
        name: "new".to_owned(),
        mac: Some(PEER_MAC),
        mtu: 1400,
        up: true,
        // up alone, with the peer still down
        state: LinkState::LowerLayerDown,
        ..made
    };
    assert_eq!(changed, expected);

    netlink.set_down("new").unwrap();
    assert!(!netlink.link("new").unwrap().up);
    assert!(matches!(netlink.link("old"), Err(NetlinkError::NoSuchLink { .. })));
}

#[test]
fn deleting_one_end_of_a_pair_deletes_the_other() {
    let Some(pair) = Pair::new("delete") else { return };
    pair.left.netlink().unwrap().delete_link("eth0").unwrap();
    let right = pair.right.netlink().unwrap();
    assert!(matches!(right.link("eth0"), Err(NetlinkError::NoSuchLink { .. })));
}

#[test]
fn a_link_moves_between_namespaces() {
    let (Some(from), Some(to)) = (namespace("move"), namespace("move")) else { return };
    let netlink = from.netlink().unwrap();
    netlink.add_veth(&VethSpec::new("stays", "moves").peer_mac(PEER_MAC)).unwrap();
    netlink.move_to("moves", &to).unwrap();
    assert_eq!(to.netlink().unwrap().link("moves").unwrap().mac, Some(PEER_MAC));
    let names: Vec<String> = netlink.links().unwrap().into_iter().map(|link| link.name).collect();
    assert_eq!(names, ["lo", "stays"]);
}

#[test]
fn a_bridge_forwards_between_its_ports_until_one_is_released() {
    let (Some(middle), Some(left), Some(right)) =
        (namespace("bridge"), namespace("bridge"), namespace("bridge"))
    else {
        return;
    };
    let netlink = middle.netlink().unwrap();
    let bridge = netlink.add_bridge("br0").unwrap();
    assert_eq!(bridge.kind, LinkKind::Bridge);
    netlink.set_up("br0").unwrap();
    for (port, namespace, address) in
        [("left", &left, "10.2.0.1/24"), ("right", &right, "10.2.0.2/24")]
    {
        netlink.add_veth(&VethSpec::new(port, "eth0").peer_namespace(namespace)).unwrap();
        netlink.enslave(port, "br0").unwrap();
        netlink.set_up(port).unwrap();
        let inside = namespace.netlink().unwrap();
        inside.add_address("eth0", network(address)).unwrap();
        inside.set_up("eth0").unwrap();
        assert_eq!(netlink.link(port).unwrap().master, Some(bridge.index));
    }
    assert!(pings(&left, "10.2.0.2"));

    netlink.release("right").unwrap();
    assert_eq!(netlink.link("right").unwrap().master, None);
    let arrived = left.command("ping").args(["-c1", "-W1", "-q", "10.2.0.2"]).output().unwrap();
    assert!(!arrived.status.success());
}

#[test]
fn a_vxlan_link_is_external_or_has_one_peer() {
    let Some(namespace) = namespace("vxlan") else { return };
    let netlink = namespace.netlink().unwrap();
    let external = netlink.add_vxlan(&VxlanSpec::new("vx0", VxlanMode::External)).unwrap();
    assert_eq!((external.kind, external.ethernet), (LinkKind::Vxlan, true));
    let like = Vxlan { external: true, vni: 0, port: 4789, learning: false };
    assert_eq!(external.vxlan, Some(like));
    let mode = VxlanMode::PointToPoint { vni: 42, remote: "10.9.0.2".parse().unwrap() };
    let spec = VxlanSpec::new("vx1", mode).port(8472).local("10.9.0.1".parse().unwrap());
    let to_one = netlink.add_vxlan(&spec).unwrap();
    let like = Vxlan { external: false, vni: 42, port: 8472, learning: true };
    assert_eq!(to_one.vxlan, Some(like));

    let details = |link: &str| {
        let output =
            namespace.command("ip").args(["-d", "link", "show", "dev", link]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let vx0 = details("vx0");
    assert!(vx0.contains("external") && vx0.contains("dstport 4789"), "{vx0}");
    assert!(vx0.contains("nolearning"), "{vx0}");
    let vx1 = details("vx1");
    assert!(vx1.contains("id 42 remote 10.9.0.2 local 10.9.0.1"), "{vx1}");
    assert!(vx1.contains("dstport 8472"), "{vx1}");

    let error = netlink.add_vxlan(&VxlanSpec::new("vx2", VxlanMode::External)).unwrap_err();
    assert!(matches!(error, NetlinkError::Exists { .. }), "{error}");
}

#[test]
fn addresses_are_added_listed_and_removed() {
    let Some(pair) = Pair::new("address") else { return };
    let netlink = pair.left.netlink().unwrap();
    let (v4, v6) = (network("192.0.2.7/32"), network("2001:db8::7/128"));
    netlink.add_address("eth0", v4).unwrap();
    netlink.add_address("eth0", v6).unwrap();
    let addresses = netlink.addresses_of("eth0").unwrap();
    for address in [v4, v6, network(Pair::LEFT), network(Pair::LEFT_V6)] {
        assert!(addresses.contains(&address), "{address} in {addresses:?}");
    }
    let lo = netlink.link("lo").unwrap().index;
    let all = netlink.addresses().unwrap();
    assert!(all.iter().any(|entry| entry.link == lo && entry.network == network("127.0.0.1/8")));

    let again = netlink.add_address("eth0", v4).unwrap_err();
    assert!(matches!(again, NetlinkError::Exists { .. }), "{again}");
    netlink.remove_address("eth0", v4).unwrap();
    let twice = netlink.remove_address("eth0", v4).unwrap_err();
    assert!(matches!(twice, NetlinkError::Missing { .. }), "{twice}");
    assert!(!netlink.addresses_of("eth0").unwrap().contains(&v4));
    assert!(netlink.addresses_of("eth0").unwrap().contains(&v6));
}

#[test]
fn a_missing_link_is_named_along_with_those_there_are() {
    let Some(namespace) = namespace("missing") else { return };
    let netlink = namespace.netlink().unwrap();
    netlink.add_veth(&VethSpec::new("veth0", "veth1")).unwrap();
    let errors = [
        netlink.link("eth7").unwrap_err(),
        netlink.set_up("eth7").unwrap_err(),
        netlink.set_mtu("eth7", 1500).unwrap_err(),
        netlink.rename("eth7", "eth8").unwrap_err(),
        netlink.delete_link("eth7").unwrap_err(),
        netlink.release("eth7").unwrap_err(),
        netlink.enslave("veth0", "eth7").unwrap_err(),
        netlink.move_to("eth7", &namespace).unwrap_err(),
        netlink.add_address("eth7", network("10.0.0.1/8")).unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, NetlinkError::NoSuchLink { .. }), "{error:?}");
        let text = error.to_string();
        for part in ["`eth7`", namespace.name(), "`lo`", "`veth0`", "`veth1`"] {
            assert!(text.contains(part), "{part} in: {text}");
        }
    }
    let error = netlink.link_by_index(4711).unwrap_err();
    assert!(error.to_string().contains("index 4711"), "{error}");
}

#[test]
fn a_name_that_is_taken_is_refused_in_either_namespace() {
    let (Some(near), Some(far)) = (namespace("taken"), namespace("taken")) else { return };
    let netlink = near.netlink().unwrap();
    netlink.add_veth(&VethSpec::new("a", "b").peer_namespace(&far)).unwrap();
    for (name, peer) in [("a", "c"), ("c", "b")] {
        let spec = VethSpec::new(name, peer).peer_namespace(&far);
        let error = netlink.add_veth(&spec).unwrap_err();
        assert!(matches!(error, NetlinkError::Exists { .. }), "{error}");
        assert!(
            error.to_string().contains(&format!("veth `{name}` with peer `{peer}`")),
            "{error}"
        );
    }
    assert_eq!(netlink.links().unwrap().len(), 2);
}

#[test]
fn a_name_that_the_kernel_would_not_take_is_refused_with_the_reason() {
    let Some(namespace) = namespace("names") else { return };
    let netlink = namespace.netlink().unwrap();
    for (name, fault) in [
        ("", "empty"),
        ("sixteen-letters-", "15"),
        ("a/b", "`/`"),
        ("a b", "space"),
        ("a%d", "`%`"),
    ] {
        let error = netlink.add_bridge(name).unwrap_err();
        assert!(matches!(error, NetlinkError::BadName { .. }), "{error}");
        assert!(error.to_string().contains(fault), "{error}");
    }
}

#[test]
fn a_refusal_says_what_the_kernel_says() {
    let Some(namespace) = namespace("refusal") else { return };
    let netlink = namespace.netlink().unwrap();
    netlink.add_veth(&VethSpec::new("a", "b")).unwrap();
    let error = netlink.set_mtu("a", 1_000_000).unwrap_err().to_string();
    assert!(error.starts_with("setting the MTU of link `a` to 1000000: "), "{error}");
    assert!(error.contains("mtu greater than device maximum"), "{error}");
}

#[test]
fn without_the_privilege_the_error_names_it() {
    let Some(namespace) = namespace("denied") else { return };
    // a user who is nobody in the namespace may still look
    let netlink = namespace.netlink().unwrap();
    let error = namespace
        .run(|| {
            rustix::thread::set_capabilities(
                None,
                rustix::thread::CapabilitySets {
                    effective: rustix::thread::CapabilitySet::empty(),
                    permitted: rustix::thread::CapabilitySet::empty(),
                    inheritable: rustix::thread::CapabilitySet::empty(),
                },
            )
            .unwrap();
            assert!(netlink.links().is_ok());
            netlink.add_veth(&VethSpec::new("x", "y")).unwrap_err()
        })
        .unwrap();
    assert!(matches!(error, NetlinkError::Denied { .. }), "{error}");
    assert_eq!(
        error.to_string(),
        "creating veth `x` with peer `y`: permission denied: needs CAP_NET_ADMIN; run as root"
    );
}
