//! Tags, ports, and the walk through all.

use std::collections::BTreeSet;

use super::*;

#[test]
fn a_tag_leads_to_the_connections_that_depend_on_it() {
    let table = table();
    let open = |client, tags: &[Tag]| table.open(&with_tags(client, tags)).unwrap().id;
    let ids: Vec<_> =
        [&[SERVICE][..], &[POLICY, SERVICE], &[], &[PREFIX, POLICY, SERVICE], &[POLICY]]
            .into_iter()
            .enumerate()
            .map(|(client, tags)| open(client as u32, tags))
            .collect();
    let of = |which: &[usize]| which.iter().map(|&which| ids[which]).collect::<BTreeSet<_>>();
    assert_eq!(set(table.by_tag(SERVICE)), of(&[0, 1, 3]));
    assert_eq!(set(table.by_tag(POLICY)), of(&[1, 3, 4]));
    assert_eq!(set(table.by_tag(PREFIX)), of(&[3]));
    assert_eq!(set(table.by_tag(port(1))), of(&[0, 1, 2, 3, 4]));
    assert_eq!(table.by_tag(port(3)), []);
}

#[test]
fn the_chain_is_asked_anew_with_the_opening_packet_and_the_translation_in_force() {
    let table = table();
    let backend = Endpoint { address: [9; 16], port: 8080 };
    let node = Endpoint { address: [8; 16], port: 50_000 };
    let slot = Slot { ttl: 63, src_mac: [2; 6], dst_mac: [4; 6], ingress: 1, ..slot(6, 77, 80) };
    let asked = |reply| {
        let table = Connections::new(Settings::default());
        let id = table.open(&Opening { reply, ..opening(slot) }).unwrap().id;
        table.view(id).unwrap().opening
    };
    let plain = Key::of(&slot, CLIENT).reversed(SERVER);
    let as_sent = Slot { to_addr: slot.dst_addr, to_port: 80, origin: 1, ..slot };
    assert_eq!(asked(plain), as_sent);

    let translated = Key { source: backend, destination: node, ..plain };
    let [to_addr, as_addr] = [backend, node].map(|end| end.address);
    let expected = Slot { to_addr, to_port: 8080, as_addr, as_port: 50_000, ..as_sent };
    assert_eq!(asked(translated), expected);

    let echo = Slot { protocol: 1, dst_port: 0, icmp_type: 8, ..slot };
    let echo = Slot { hash: flow_hash(&echo), ..echo };
    let id = table.open(&opening(echo)).unwrap().id;
    let asked = table.view(id).unwrap().opening;
    assert_eq!(asked, Slot { to_addr: echo.dst_addr, origin: 1, ..echo });
}

#[test]
fn behind_the_underlay_the_port_is_the_one_that_packets_leave_by() {
    let table = table();
    let slot = slot(17, 1, 53);
    let reply = Key::of(&slot, CLIENT).reversed(Zone::UNDERLAY);
    let id = table.open(&Opening { reply, ways: [way(40), way(1)], ..opening(slot) }).unwrap().id;
    assert_eq!(table.by_tag(port(1)), [id]);
    assert_eq!(table.by_tag(port(40)), [id]);
    let anew = Anew { ways: [way(41), way(1)], answers: Zone::UNDERLAY, ..anew(&[]) };
    table.replace(id, &anew).unwrap();
    assert_eq!((table.by_tag(port(40)), table.by_tag(port(41))), (vec![], vec![id]));
}

#[test]
fn a_removed_port_takes_its_connections_with_it_and_no_others() {
    let table = table();
    let going = open_some(&table, Zone::port(5), 200);
    let staying = open_some(&table, Zone::port(6), 10);
    let due = table.remove_port(5, 3 * SECOND);
    assert_eq!(due.len(), 200);
    assert!(!going.iter().any(|opening| is_there(&table, opening)), "packets find none");
    assert!(staying.iter().all(|opening| is_there(&table, opening)));
    // a pod that gets the address at once gets nothing of its predecessor's
    assert_eq!(table.open(&going[0]), Err(OpenError::Open));
    assert_eq!(table.by_tag(port(5)), []);

    assert_eq!(table.due(4 * SECOND, 999), [], "whoever removed the port has them");
    for due in &due[..150] {
        assert!(matches!(table.retire(due.id, 4 * SECOND), Retirement::Retired(_)));
    }
    assert_eq!(table.due(9 * SECOND, 999).len(), 50, "what was forgotten is due again");
    for due in &due[150..] {
        assert!(matches!(table.retire(due.id, 9 * SECOND), Retirement::Retired(_)));
    }
    assert_eq!((table.len(), table.owner(Zone::port(5)).connections), (10, 0));
    assert!(table.open(&going[0]).is_ok());
}

#[test]
fn a_walk_sees_every_connection_once() {
    let table = table();
    let all: BTreeSet<_> =
        (0..500u32).map(|client| table.open(&opening(slot(17, client, 53))).unwrap().id).collect();
    for most in [1, 7, 64, 500, 10_000] {
        let (mut seen, mut from) = (Vec::new(), Some(Cursor::default()));
        while let Some(cursor) = from {
            let (views, next) = table.all(cursor, most);
            assert!(views.len() <= most);
            seen.extend(views.into_iter().map(|view| view.id));
            from = next;
        }
        assert_eq!(set(seen), all);
    }
}
