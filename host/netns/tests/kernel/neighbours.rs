use std::net::IpAddr;

use millrace_netns::{Neighbour, NeighbourState, NetlinkError};

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
