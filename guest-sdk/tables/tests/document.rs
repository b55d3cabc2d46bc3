//! What `TABLES.md` says of octets, held against what is written.

use std::collections::BTreeMap;

use millrace_tables::{
    Action, Algorithm, Backend, Block, Change, Clause, Domain, Endpoint, EndpointSet, Endpoints,
    Frontend, FrontendKind, Identity, List, Otherwise, Owner, Pattern, Peer, Place, Policies,
    PolicySet, Protocol, Range, Row, Selector, Service, Source, SourceSet, Table, Tables, Tier,
    TrafficPolicy, Update,
};

const TEXT: &str = include_str!("../TABLES.md");

/// The rows of the first table behind a heading that begins so, without the one with its columns.
fn rows(heading: &str) -> Vec<Vec<&'static str>> {
    let lines =
        TEXT.lines().skip_while(|line| !line.trim_start_matches('#').trim().starts_with(heading));
    let table =
        lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    table.skip(2).map(|line| line.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The fields of a layout: the offset and length of each.
fn fields(heading: &str) -> BTreeMap<&'static str, (usize, usize)> {
    let len = |ty: &str| match ty.trim_matches('`') {
        "u8" => 1,
        "u16" => 2,
        "u32" => 4,
        array => array.trim_start_matches("u8[").trim_end_matches(']').parse().expect("a length"),
    };
    let fields = rows(heading);
    fields.iter().map(|row| (row[1], (row[0].parse().expect("an offset"), len(row[2])))).collect()
}

/// The key and value of the only row, as they are written.
fn written(row: Row<'_>) -> (Vec<u8>, Vec<u8>) {
    let mut tables = Tables::default();
    tables.put(&row);
    let update = tables.whole(&[row.key().table()], 7, 1 << 20).concat();
    // behind the reset; before the commit
    let record = &update[8..update.len() - 16];
    assert_eq!((record[0], record[1]), (2, row.key().table() as u8));
    let key = usize::from(u16::from_le_bytes([record[2], record[3]]));
    let value = u32::from_le_bytes(record[4..8].try_into().expect("4 octets")) as usize;
    let at = 8 + key.next_multiple_of(8);
    assert_eq!(record.len(), at + value.next_multiple_of(8));
    (record[8..8 + key].to_vec(), record[at..at + value].to_vec())
}

/// Whether each field of the layout is where it says, and nothing is beside them.
fn check(heading: &str, octets: &[u8], values: &[(&str, u128)]) {
    let mut fields = fields(heading);
    let mut seen = 0;
    for (name, value) in values {
        let (offset, len) = fields.remove(name).unwrap_or_else(|| panic!("{heading}: no `{name}`"));
        let field = &octets[offset..offset + len];
        let is = match len {
            16 => u128::from_be_bytes(field.try_into().expect("16 octets")),
            _ => field.iter().rev().fold(0, |sum, octet| sum << 8 | u128::from(*octet)),
        };
        assert_eq!(is, *value, "{heading}: `{name}`");
        seen += len;
    }
    assert_eq!(fields.len(), 0, "{heading} has fields that nobody knows: {fields:?}");
    assert_eq!(seen, octets.len(), "{heading}");
}

fn frontend() -> Frontend {
    let address = "10.96.0.10".parse().expect("an address");
    Frontend { address, port: 0x1234, protocol: Protocol::Udp }
}

fn service() -> Service {
    Service {
        number: 0x0102_0304,
        port: 0x5678,
        kind: FrontendKind::NodePort,
        policy: TrafficPolicy::Local,
        cluster: EndpointSet(0x1112_1314),
        local: EndpointSet(0x2122_2324),
        affinity_s: 10_800,
        sources: SourceSet(0x4142_4344),
        algorithm: Algorithm::SourceHash,
    }
}

const MAPPED: u128 = 0xffff_0a60_000a;

#[test]
fn the_layouts_are_those_that_are_written() {
    let (key, value) = written(Row::Service(frontend(), service()));
    check(
        "Frontend",
        &key,
        &[("address", MAPPED), ("port", 0x1234), ("protocol", 17), ("zero", 0)],
    );
    check(
        "Service",
        &value,
        &[
            ("number", 0x0102_0304),
            ("cluster", 0x1112_1314),
            ("local", 0x2122_2324),
            ("affinity", 10_800),
            ("port", 0x5678),
            ("kind", 3),
            ("policy", 1),
            ("sources", 0x4142_4344),
            ("algorithm", 2),
            ("zero", 0),
        ],
    );

    let endpoint = Endpoint { address: frontend().address, port: 0x1234 };
    let octets = Backend::encode_all(&[Backend { endpoint, weight: 0x5678 }]);
    let endpoints = Endpoints::new(&octets).expect("an endpoint");
    let (key, value) = written(Row::Endpoints(EndpointSet(0x3132_3334), endpoints));
    assert_eq!(key, 0x3132_3334u32.to_le_bytes());
    check("Endpoint,", &value, &[("address", MAPPED), ("port", 0x1234), ("weight", 0x5678)]);

    let range = Range { address: "10.96.0.0".parse().expect("an address"), len: 12 };
    let (key, value) = written(Row::Range(range));
    check("Range", &key, &[("address", 0xffff_0a60_0000), ("length", 12), ("zero", 0)]);
    assert!(value.is_empty());

    let source = Source { set: SourceSet(0x5152_5354), range };
    let (key, value) = written(Row::Source(source));
    let fields = [("set", 0x5152_5354), ("address", 0xffff_0a60_0000), ("length", 12), ("zero", 0)];
    check("Source,", &key, &fields);
    assert!(value.is_empty());
}

#[test]
fn the_layouts_of_policies_are_those_that_are_written() {
    let owner = Owner {
        place: Place::Node,
        identity: Identity(0x0102_0304),
        egress: PolicySet(0x1112_1314),
        ingress: PolicySet(0x2122_2324),
    };
    let (key, value) = written(Row::Owner(frontend().address, owner));
    assert_eq!(key, MAPPED.to_be_bytes());
    check(
        "Owner,",
        &value,
        &[
            ("identity", 0x0102_0304),
            ("egress", 0x1112_1314),
            ("ingress", 0x2122_2324),
            ("place", 2),
            ("zero", 0),
        ],
    );

    let octets = List::encode(&[Selector(0x0102_0304), Selector(0x0202_0304)]);
    let selectors = List::new(&octets).expect("they are in order");
    let (key, value) = written(Row::Identity(Identity(7), selectors));
    assert_eq!((&key[..], &value[..]), (&7u32.to_le_bytes()[..], &[4, 3, 2, 1, 4, 3, 2, 2][..]));

    let range = Range { address: "10.96.0.0".parse().expect("an address"), len: 12 };
    let octets = List::encode(&[range]);
    let (key, value) = written(Row::Block(Block(9), List::new(&octets).expect("a range")));
    assert_eq!(key, 9u32.to_le_bytes());
    check("Range", &value, &[("address", 0xffff_0a60_0000), ("length", 12), ("zero", 0)]);

    let peers = [
        (Peer::Any, 0, 0),
        (Peer::Selected(Selector(3)), 1, 3),
        (Peer::Is(Identity(4)), 2, 4),
        (Peer::Within(Block(5)), 3, 5),
        (Peer::Called(Domain(6)), 4, 6),
    ];
    for (peer, kind, number) in peers {
        let (protocol, rule) = (Some(Protocol::Sctp), 0x0908_0706);
        let (tier, action) = (Tier::Baseline, Action::Deny);
        let clause = Clause { tier, action, peer, protocol, first: 0x1234, last: 0x5678, rule };
        let octets = List::encode(&[clause]);
        let clauses = List::new(&octets).expect("a clause");
        let otherwise = Otherwise { action: Action::Deny, rule: 0x3132_3334 };
        let policies = Policies { otherwise, audit: PolicySet(0x4142_4344), clauses };
        let (key, value) = written(Row::Policies(PolicySet(8), policies));
        assert_eq!(key, 8u32.to_le_bytes());
        let (header, clause) = value.split_at(12);
        let expected =
            [("otherwise", 0x3132_3334), ("audit", 0x4142_4344), ("action", 1), ("zero", 0)];
        check("Policies", header, &expected);
        let expected = [
            ("peer", number),
            ("rule", 0x0908_0706),
            ("first", 0x1234),
            ("last", 0x5678),
            ("protocol", 132),
            ("kind", kind),
            ("tier", 2),
            ("action", 1),
        ];
        check("Clause", clause, &expected);
    }
}

#[test]
fn names_are_text_and_who_is_asked_for_them_has_an_address() {
    let pattern = Pattern::new("*.example.com").expect("a pattern");
    let (key, value) = written(Row::Domain(Domain(0x0102_0304), pattern));
    assert_eq!((&key[..], &value[..]), (&[4, 3, 2, 1][..], &b"*.example.com"[..]));
    let (key, value) = written(Row::Resolver(frontend().address));
    assert_eq!((&key[..], &value[..]), (&MAPPED.to_be_bytes()[..], &[][..]));
}

#[test]
fn the_tables_are_those_that_there_are() {
    let listed: Vec<_> = rows("2. The tables")
        .iter()
        .map(|row| (row[1].parse().expect("a number"), row[2].trim_matches('`')))
        .collect();
    assert_eq!(listed, Table::ALL.map(|table| (table as u8, table.label())));
}

#[test]
fn the_operations_are_those_that_are_written() {
    let table = rows("1. Updates");
    assert_eq!(table.last().map(|row| row[1]), Some("the value"));
    let numbers: Vec<u8> = TEXT
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|line| {
            let (name, rest) = line.split_once(" | ")?;
            let known = ["reset", "upsert", "remove", "commit"].contains(&name);
            known.then(|| rest.split(' ').next()?.parse().ok()).flatten()
        })
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4]);

    let mut before = Tables::default();
    before.put(&Row::Service(frontend(), service()));
    let written = [
        before.whole(&[Table::Services], 9, 1 << 20).concat(),
        before.delta(&Tables::default()).updates(&[Table::Services], 10, 1 << 20).concat(),
    ];
    let said: Vec<_> = written
        .iter()
        .flat_map(|octets| Update::new(octets).changes())
        .map(|change| match change.expect("it is well-formed") {
            Change::Reset(Table::Services) => 1,
            Change::Upsert(_) => 2,
            Change::Remove(_) => 3,
            Change::Commit(_) => 4,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(said, [1, 2, 4, 3, 4]);
    // the first octet of each record, as the document has it
    assert_eq!((written[0][0], written[0][8], written[1][0]), (1, 2, 3));
}
