use millrace_netns::{Channels, EthtoolError, NetlinkError};

use crate::ground::{Pair, namespace};

#[test]
fn the_driver_of_a_veth_is_veth() {
    let Some(pair) = Pair::new("driver") else { return };
    let driver = pair.left.ethtool("eth0").unwrap().driver().unwrap();
    assert_eq!((driver.name.as_str(), driver.version.as_str()), ("veth", "1.0"));
}

#[test]
fn features_that_were_turned_off_read_back_off_and_on_again() {
    let Some(pair) = Pair::new("features") else { return };
    let ethtool = pair.left.ethtool("eth0").unwrap();
    for name in ["tx", "sg", "tso", "gso", "rxvlan", "txvlan", "tx-vlan-stag-hw-insert"] {
        assert!(ethtool.is_on(name).unwrap(), "{name}");
        ethtool.disable(&[name]).unwrap();
        assert!(!ethtool.is_on(name).unwrap(), "{name}");
        ethtool.enable(&[name]).unwrap();
        assert!(ethtool.is_on(name).unwrap(), "{name}");
    }
    assert!(!ethtool.is_on("gro").unwrap());
    ethtool.enable(&["gro"]).unwrap();
    assert!(ethtool.is_on("rx-gro").unwrap());
}

#[test]
fn turning_one_feature_off_leaves_the_others_and_the_peer_alone() {
    let Some(pair) = Pair::new("alone") else { return };
    let (left, right) = (pair.left.ethtool("eth0").unwrap(), pair.right.ethtool("eth0").unwrap());
    let (before, peer) = (left.features().unwrap(), right.features().unwrap());
    left.disable(&["tx-vlan-stag-hw-insert"]).unwrap();
    for (was, now) in before.iter().zip(left.features().unwrap()) {
        let expected = was.active && was.name != "tx-vlan-stag-hw-insert";
        assert_eq!(now.active, expected, "{}", was.name);
    }
    assert_eq!(right.features().unwrap(), peer);
}

#[test]
fn a_feature_that_depends_on_another_is_reported() {
    let Some(pair) = Pair::new("depends") else { return };
    let ethtool = pair.left.ethtool("eth0").unwrap();
    ethtool.disable(&["tx", "tso"]).unwrap();
    let error = ethtool.enable(&["tso"]).unwrap_err();
    assert!(matches!(error, EthtoolError::NotApplied { .. }), "{error}");
}

#[test]
fn a_fixed_feature_and_an_unknown_one_are_told_apart() {
    let Some(pair) = Pair::new("fixed") else { return };
    let ethtool = pair.left.ethtool("eth0").unwrap();
    let fixed = ethtool.enable(&["rx-fcs"]).unwrap_err();
    assert!(matches!(fixed, EthtoolError::Fixed { .. }), "{fixed}");
    assert!(ethtool.disable(&["rx-fcs"]).is_ok());

    let unknown = ethtool.enable(&["tx-checksums"]).unwrap_err();
    assert!(matches!(unknown, EthtoolError::UnknownFeature { .. }), "{unknown}");
    assert!(unknown.to_string().contains("`tx-checksum-ip-generic`"), "{unknown}");
}

#[test]
fn channels_are_set_within_the_room_there_is() {
    let Some(namespace) = namespace("channels") else { return };
    let spec = millrace_netns::VethSpec::new("a", "b").queues(4);
    namespace.netlink().unwrap().add_veth(&spec).unwrap();
    let ethtool = namespace.ethtool("a").unwrap();
    let room = Channels { rx: 4, tx: 4, combined: 0 };
    assert_eq!(ethtool.max_channels().unwrap(), room);
    assert_eq!(ethtool.channels().unwrap(), room);

    let fewer = Channels { rx: 2, tx: 3, combined: 0 };
    ethtool.set_channels(fewer).unwrap();
    assert_eq!(ethtool.channels().unwrap(), fewer);

    let error = ethtool.set_channels(Channels { rx: 5, ..room }).unwrap_err();
    assert!(error.to_string().contains("channels of `a`"), "{error}");
    assert_eq!(ethtool.channels().unwrap(), fewer);
}

#[test]
fn a_link_without_channels_says_so() {
    let Some(namespace) = namespace("bridge") else { return };
    namespace.netlink().unwrap().add_bridge("br0").unwrap();
    let error = namespace.ethtool("br0").unwrap().channels().unwrap_err();
    assert!(matches!(error, EthtoolError::Unsupported { .. }), "{error}");
}

#[test]
fn a_missing_link_and_one_that_is_gone_are_told_apart() {
    let Some(pair) = Pair::new("gone") else { return };
    let missing = pair.left.ethtool("eth7").unwrap_err();
    assert!(matches!(missing, EthtoolError::Netlink(NetlinkError::NoSuchLink { .. })), "{missing}");
    let ethtool = pair.left.ethtool("eth0").unwrap();
    pair.right.netlink().unwrap().delete_link("eth0").unwrap();
    let gone = ethtool.driver().unwrap_err();
    assert!(matches!(gone, EthtoolError::Gone { .. }), "{gone}");
    assert_eq!(gone.to_string(), "reading the driver of `eth0`: the link is gone");
}
