use std::net::IpAddr;
use std::time::{Duration, Instant};

use millrace_netns::{
    Neighbour, NeighbourState, NetlinkError, Route, RouteProtocol, VethSpec, send_frame,
};

use crate::ground::{Pair, pings};

const MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0c];
const OTHER_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x0d];

#[test]
fn neighbours_are_added_replaced_listed_and_removed() {
    let Some(pair) = Pair::new("neigh") else { return };
    let netlink = pair.left.netlink().unwrap();
    for address in ["10.1.0.9", "fd01::9"] {
        let address: IpAddr = address.parse().unwrap();
        let neighbour = Neighbour::permanent("eth0", address, MAC);
        let replacement = Neighbour::permanent("eth0", address, OTHER_MAC);

        netlink.add_neighbour(&neighbour).unwrap();
        assert!(netlink.neighbours().unwrap().contains(&neighbour));
        let again = netlink.add_neighbour(&replacement).unwrap_err();
        assert!(matches!(again, NetlinkError::Exists { .. }), "{again}");

        netlink.replace_neighbour(&replacement).unwrap();
        let listed = netlink.neighbours().unwrap();
        assert!(listed.contains(&replacement) && !listed.contains(&neighbour), "{listed:?}");

        netlink.remove_neighbour("eth0", address).unwrap();
        let left = netlink.neighbours().unwrap();
        assert!(left.iter().all(|neighbour| neighbour.address != address), "{left:?}");
        let twice = netlink.remove_neighbour("eth0", address).unwrap_err();
        assert!(matches!(twice, NetlinkError::Missing { .. }), "{twice}");
    }
}

#[test]
fn a_resolved_neighbour_is_listed_with_its_address() {
    let Some(pair) = Pair::new("arp") else { return };
    assert!(pings(&pair.left, "10.1.0.2"));
    let peer = pair.right.netlink().unwrap().link("eth0").unwrap();
    let neighbours = pair.left.netlink().unwrap().neighbours().unwrap();
    let address: IpAddr = "10.1.0.2".parse().unwrap();
    let found = neighbours.iter().find(|neighbour| neighbour.address == address).unwrap();
    assert_eq!((found.link.as_str(), found.mac), ("eth0", peer.mac));
    assert_ne!(found.state, NeighbourState::Failed);
}

#[test]
fn a_host_answers_for_addresses_of_others_until_it_does_not() {
    let Some(pair) = Pair::new("proxy") else { return };
    let (ours, others) = (RouteProtocol(109), RouteProtocol(110));
    let netlink = pair.left.netlink().unwrap();
    netlink.add_veth(&VethSpec::new("away", "away-end")).unwrap();
    netlink.set_up("away").unwrap();
    pair.left.set_sysctl("net.ipv4.ip_forward", "1").unwrap();
    pair.left.set_sysctl("net.ipv4.neigh.eth0.proxy_delay", "0").unwrap();
    let address: IpAddr = "10.1.0.77".parse().unwrap();
    netlink.add_route(&Route::to(address.into()).link("away")).unwrap();
    let ask = || {
        // nobody answers the ping, but somebody the question who has the address
        pings(&pair.right, "10.1.0.77");
        let known = pair.right.netlink().unwrap().neighbours().unwrap();
        let found = known.into_iter().find(|it| it.address == address).unwrap();
        pair.right.netlink().unwrap().remove_neighbour("eth0", address).unwrap();
        found.mac
    };
    assert_eq!(ask(), None);

    netlink.add_proxy("eth0", address, ours).unwrap();
    assert_eq!(ask(), netlink.link("eth0").unwrap().mac);
    assert_eq!(netlink.proxies(ours).unwrap(), [("eth0".to_owned(), address)]);
    assert_eq!(netlink.proxies(others).unwrap(), []);

    netlink.remove_proxy("eth0", address).unwrap();
    assert_eq!((ask(), netlink.proxies(ours).unwrap()), (None, Vec::new()));
    let twice = netlink.remove_proxy("eth0", address).unwrap_err();
    assert!(matches!(twice, NetlinkError::Missing { .. }), "{twice}");
}

#[test]
fn a_frame_is_sent_as_it_is() {
    let Some(pair) = Pair::new("frame") else { return };
    let link = pair.left.netlink().unwrap().link("eth0").unwrap();
    let address: IpAddr = "10.1.0.1".parse().unwrap();
    assert!(pings(&pair.right, "10.1.0.1"));
    // an ARP request for one's own address, from another link-layer address
    let mut frame =
        [vec![0xff; 6], OTHER_MAC.to_vec(), vec![8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    for part in [&OTHER_MAC[..], &[10, 1, 0, 1], &[0; 6], &[10, 1, 0, 1]] {
        frame.extend(part);
    }
    pair.left.run(|| send_frame("eth0", &frame)).unwrap().unwrap();
    let known = || {
        let known = pair.right.netlink().unwrap().neighbours().unwrap();
        known.into_iter().find(|it| it.address == address).unwrap().mac
    };
    assert_ne!(link.mac, Some(OTHER_MAC));
    let deadline = Instant::now() + Duration::from_secs(10);
    while known() != Some(OTHER_MAC) {
        assert!(Instant::now() < deadline, "it does not arrive");
        std::thread::yield_now();
    }
    let missing = pair.left.run(|| send_frame("eth9", &frame)).unwrap().unwrap_err();
    assert!(missing.to_string().contains("eth9"), "{missing}");
}
