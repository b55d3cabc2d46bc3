use super::*;

fn slot(source: &str, destination: &str, protocol: u8) -> Slot {
    let [from, to] = [source, destination].map(|end| end.parse::<std::net::SocketAddr>().unwrap());
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    Slot {
        src_addr: octets(from.ip()),
        dst_addr: octets(to.ip()),
        src_port: from.port(),
        dst_port: to.port(),
        ip_version: if from.is_ipv4() { 4 } else { 6 },
        protocol,
        class: Class::Flow as u8,
        ..Slot::ZERO
    }
}

fn matching(text: &str) -> Vec<usize> {
    let expression: Expression = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let packets = [
        slot("10.0.0.1:4000", "10.0.0.2:80", 6),
        slot("10.0.0.2:80", "10.0.0.1:4000", 6),
        slot("10.0.1.1:5353", "10.0.0.2:53", 17),
        slot("[fd00::1]:4000", "[fd00::2]:443", 6),
        Slot { class: Class::Arp as u8, ..Slot::ZERO },
    ];
    (0..packets.len()).filter(|&at| expression.matches(&packets[at])).collect()
}

#[test]
fn expressions_mean_what_tcpdumps_users_think() {
    for (text, expected) in [
        ("", &[0, 1, 2, 3, 4][..]),
        ("tcp", &[0, 1, 3]),
        ("udp or arp", &[2, 4]),
        ("ip", &[0, 1, 2]),
        ("ip6", &[3]),
        ("host 10.0.0.1", &[0, 1]),
        ("10.0.0.1", &[0, 1]),
        ("src host 10.0.0.1", &[0]),
        ("dst host 10.0.0.1 or src port 5353", &[1, 2]),
        ("net 10.0.0.0/24", &[0, 1, 2]),
        ("src net 10.0.0.0/24", &[0, 1]),
        ("net 0.0.0.0/0", &[0, 1, 2]),
        ("net fd00::/16", &[3]),
        ("tcp port 80", &[0, 1]),
        ("dst port 80", &[0]),
        ("portrange 440-450", &[3]),
        ("tcp and not port 80", &[3]),
        ("not (tcp or udp)", &[4]),
        ("!(tcp || udp)", &[4]),
        ("tcp port 443 or udp port 53", &[2, 3]),
        ("tcp and (port 443 or dst port 80)", &[0, 3]),
        ("vlan 0 and udp", &[2]),
        ("not not udp", &[2]),
    ] {
        assert_eq!(matching(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused_where_it_begins_to_be_none() {
    for (text, near, complaint) in [
        ("hots 10.0.0.1", "hots", "no term"),
        ("host 10.0.0", "10.0.0", "no address"),
        ("net 10.0.0.0/33", "10.0.0.0/33", "no prefix"),
        ("port 70000", "70000", "no number of a port"),
        ("portrange 80", "80", "no range"),
        ("tcp and", "", "missing at the end"),
        ("src", "", "missing"),
        ("(tcp", "", "`)` is missing"),
        ("tcp )", ")", "nothing is expected"),
        ("tcp or or udp", "or", "no term"),
    ] {
        let error = text.parse::<Expression>().unwrap_err();
        assert_eq!(error.near, near, "{text}");
        assert!(error.complaint.contains(complaint), "{text}: {error}");
    }
    assert!(format!("{}tcp", "(".repeat(5000)).parse::<Expression>().is_err());
    assert!(format!("{}tcp", "not ".repeat(DEPTH)).parse::<Expression>().is_err());
    assert!(format!("{}tcp", "not ".repeat(DEPTH - 1)).parse::<Expression>().is_ok());
    assert!("tcp ".repeat(1000).parse::<Expression>().is_ok());
}

#[test]
fn what_has_to_be_so_is_so_of_every_packet_that_is_meant() {
    let needs = |text: &str| text.parse::<Expression>().unwrap().needs();
    let all = needs("tcp and port 80 and src net 10.0.0.0/8");
    assert_eq!((all.protocol, all.port), (Some(6), Some(80)));
    let prefix = all.prefix.unwrap();
    assert!(prefix.contains(&slot("10.9.9.9:1", "1.1.1.1:1", 6).src_addr));
    assert!(!prefix.contains(&slot("11.9.9.9:1", "1.1.1.1:1", 6).src_addr));
    assert_eq!(needs("udp").protocol, Some(17));
    for text in ["tcp or udp", "not tcp", "portrange 1-2", ""] {
        assert_eq!(needs(text), Needs::default(), "{text}");
    }
}
