//! Tables on both sides of an update, against plain maps.

use std::net::IpAddr;

use millrace_tables::{
    Action, Algorithm, Backend, Block, Change, Clause, Domain, Draft, Endpoint, EndpointSet,
    Endpoints, Frontend, FrontendKind, Identity, List, Malformed, Otherwise, Owner, Pattern, Peer,
    Place, Policies, PolicySet, Protocol, Range, Row, Selector, Service, Source, SourceSet, Table,
    Tables, Tier, TrafficPolicy, Update,
};
use proptest::prelude::*;
use proptest::sample::select;

/// A row that owns what it has.
#[derive(Clone, Debug)]
enum Owned {
    Service(Frontend, Service),
    Endpoints(EndpointSet, Vec<u8>),
    Range(Range),
    Owner(IpAddr, Owner),
    Identity(Identity, Vec<u8>),
    Block(Block, Vec<u8>),
    Policies(PolicySet, Otherwise, Vec<u8>),
    Source(Source),
    Domain(Domain, String),
    Resolver(IpAddr),
}

impl Owned {
    fn row(&self) -> Row<'_> {
        match self {
            Self::Service(frontend, service) => Row::Service(*frontend, *service),
            Self::Endpoints(set, octets) => {
                Row::Endpoints(*set, Endpoints::new(octets).expect("endpoints"))
            }
            Self::Range(range) => Row::Range(*range),
            Self::Owner(address, owner) => Row::Owner(*address, *owner),
            Self::Identity(identity, octets) => {
                Row::Identity(*identity, List::new(octets).expect("selectors"))
            }
            Self::Block(block, octets) => Row::Block(*block, List::new(octets).expect("ranges")),
            Self::Policies(set, otherwise, octets) => {
                let clauses = List::new(octets).expect("clauses");
                Row::Policies(
                    *set,
                    Policies { otherwise: *otherwise, audit: PolicySet(7), clauses },
                )
            }
            Self::Source(source) => Row::Source(*source),
            Self::Domain(domain, text) => {
                Row::Domain(*domain, Pattern::new(text).expect("a pattern"))
            }
            Self::Resolver(address) => Row::Resolver(*address),
        }
    }
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..4u8).prop_map(|last| IpAddr::from([10, 96, 0, last])),
        (0..4u16).prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
    ]
}

fn row() -> impl Strategy<Value = Owned> {
    let frontend = (address(), 1..4u16, select(&Protocol::ALL[..]));
    let frontend =
        frontend.prop_map(|(address, port, protocol)| Frontend { address, port, protocol });
    let kinds = (
        select(&FrontendKind::ALL[..]),
        select(&TrafficPolicy::ALL[..]),
        select(&Algorithm::ALL[..]),
    );
    let sets = (0..3u32, 0..3u32, 0..3u32);
    let service = (any::<u32>(), any::<u16>(), kinds, sets, any::<u32>());
    let service =
        service.prop_map(|(number, port, (kind, policy, algorithm), sets, affinity_s)| {
            let (cluster, local) = (EndpointSet(sets.0), EndpointSet(sets.1));
            let sources = SourceSet(sets.2);
            Service { number, port, kind, policy, cluster, local, affinity_s, sources, algorithm }
        });
    let source = (1..4u32, range()).prop_map(|(set, range)| Source { set: SourceSet(set), range });
    let endpoint = (address(), 0..3u16).prop_map(|(address, port)| Endpoint { address, port });
    let endpoints = proptest::collection::btree_map(endpoint, 1..=u16::MAX, 1..6).prop_map(|set| {
        let backend = |(endpoint, weight)| Backend { endpoint, weight };
        Backend::encode_all(&set.into_iter().map(backend).collect::<Vec<_>>())
    });
    prop_oneof![
        (frontend, service).prop_map(|(frontend, service)| Owned::Service(frontend, service)),
        (1..5u32, endpoints).prop_map(|(set, octets)| Owned::Endpoints(EndpointSet(set), octets)),
        range().prop_map(Owned::Range),
        of_policies(),
        source.prop_map(Owned::Source),
        (0..4u32, "(\\*\\.)?[a-z]([-_a-z0-9]{0,9}[a-z0-9])?(\\.[a-z0-9]{1,9}){1,3}")
            .prop_map(|(number, text)| Owned::Domain(Domain(number), text)),
        address().prop_map(Owned::Resolver),
    ]
}

fn range() -> impl Strategy<Value = Range> {
    (0..=24u8).prop_map(|len| Range { address: [0; 4].into(), len })
}

/// A row of a table for policies.
fn of_policies() -> impl Strategy<Value = Owned> {
    let sets =
        (0..3u32, 0..3u32).prop_map(|(egress, ingress)| (PolicySet(egress), PolicySet(ingress)));
    let owner = (select(&Place::ALL[..]), 0..4u32, sets).prop_map(|(place, identity, sets)| {
        let (egress, ingress) = sets;
        Owner { place, identity: Identity(identity), egress, ingress }
    });
    let selectors = proptest::collection::btree_set((0..9u32).prop_map(Selector), 0..5)
        .prop_map(|set| List::encode(&set.into_iter().collect::<Vec<_>>()));
    let ranges = prop::collection::vec(range(), 1..4).prop_map(|them| List::encode(&them));
    let peer = prop_oneof![
        Just(Peer::Any),
        (0..9u32).prop_map(|it| Peer::Selected(Selector(it))),
        (0..9u32).prop_map(|it| Peer::Is(Identity(it))),
        (0..9u32).prop_map(|it| Peer::Within(Block(it))),
        (0..9u32).prop_map(|it| Peer::Called(Domain(it))),
    ];
    let protocol = proptest::option::of(select(&Protocol::ALL[..]));
    let says = (select(&Tier::ALL[..]), select(&Action::ALL[..]));
    let clause = (says, peer, protocol, any::<u16>(), any::<u16>(), any::<u32>()).prop_map(
        |((tier, action), peer, protocol, a, b, rule)| Clause {
            tier,
            action,
            peer,
            protocol,
            first: a.min(b),
            last: a.max(b),
            rule,
        },
    );
    let clauses = prop::collection::vec(clause, 0..4).prop_map(|mut them| {
        them.sort_by_key(|clause| clause.tier);
        List::encode(&them)
    });
    let otherwise = (select(&[Action::Allow, Action::Deny][..]), any::<u32>())
        .prop_map(|(action, rule)| Otherwise { action, rule });
    prop_oneof![
        (address(), owner).prop_map(|(address, owner)| Owned::Owner(address, owner)),
        (1..5u32, selectors).prop_map(|(it, octets)| Owned::Identity(Identity(it), octets)),
        (0..5u32, ranges).prop_map(|(it, octets)| Owned::Block(Block(it), octets)),
        (1..5u32, otherwise, clauses).prop_map(|(it, otherwise, octets)| Owned::Policies(
            PolicySet(it),
            otherwise,
            octets
        )),
    ]
}

fn tables(rows: &[Owned]) -> Tables {
    let mut tables = Tables::default();
    rows.iter().for_each(|row| tables.put(&row.row()));
    tables
}

fn apply(updates: &[Vec<u8>], tables: &mut Tables) {
    updates.iter().for_each(|it| Update::new(it).apply_to(tables).expect("it is well-formed"));
}

/// How often updates commit, and that nothing comes behind it.
fn commits(updates: &[Vec<u8>]) -> Vec<u64> {
    let mut changes: Vec<_> = updates.iter().flat_map(|it| Update::new(it).changes()).collect();
    assert!(matches!(changes.last(), Some(Ok(Change::Commit(_)))));
    let generation = |change| match change {
        Ok(Change::Commit(generation)) => Some(generation),
        _ => None,
    };
    changes.drain(..).filter_map(generation).collect()
}

proptest! {
    /// Whatever was known before, and however small the pages are.
    #[test]
    fn who_is_told_what_changed_knows_what_there_is(
        before in prop::collection::vec(row(), 0..12),
        after in prop::collection::vec(row(), 0..12),
        most in 0..400usize,
    ) {
        let (mut host, next) = (tables(&before), tables(&after));
        let mut guest = tables(&[Owned::Range(Range { address: [0; 4].into(), len: 31 })]);
        let whole = host.whole(&Table::ALL, 1, most);
        apply(&whole, &mut guest);
        prop_assert_eq!(&guest, &host);
        prop_assert_eq!(commits(&whole), [1]);

        let delta = host.delta(&next);
        prop_assert_eq!(delta.is_empty(), host == next);
        let updates = delta.updates(&Table::ALL, 2, most);
        apply(&updates, &mut guest);
        prop_assert_eq!(&guest, &next);
        prop_assert_eq!(commits(&updates), [2]);

        // what the host takes back is as if it had not been
        let undo = host.apply(&delta);
        prop_assert_eq!(&host, &next);
        host.apply(&undo);
        prop_assert_eq!(&host, &tables(&before));
    }

    #[test]
    fn who_asks_for_one_table_hears_of_no_other(rows in prop::collection::vec(row(), 0..12)) {
        for table in Table::ALL {
            let mut guest = Tables::default();
            let all = tables(&rows);
            apply(&all.whole(&[table], 1, 1 << 20), &mut guest);
            prop_assert_eq!(guest.rows_of(table), all.rows_of(table));
            let others = Table::ALL.into_iter().filter(|other| *other != table);
            prop_assert_eq!(others.map(|other| guest.rows_of(other)).sum::<usize>(), 0);
            let delta = Tables::default().delta(&all);
            prop_assert_eq!(delta.touches(table), all.rows_of(table) > 0);
        }
    }

    /// However often something was made, taken back and told in between.
    #[test]
    fn what_a_draft_has_to_tell_is_what_differs_from_what_was_told(
        steps in prop::collection::vec((prop::collection::vec((row(), any::<bool>()), 0..8), any::<bool>()), 1..6),
    ) {
        let (mut draft, mut told) = (Draft::default(), Tables::default());
        for (changes, are_told) in steps {
            for (row, stays) in changes {
                match stays {
                    true => draft.put(&row.row()),
                    false => draft.remove(&row.row().key()),
                }
            }
            prop_assert_eq!(draft.delta(), told.delta(draft.tables()));
            if are_told {
                told = draft.tables().clone();
                draft.adopt();
                prop_assert!(draft.delta().is_empty());
            }
        }
    }

    #[test]
    fn a_row_reads_back_as_it_was_written(row in row()) {
        let update = tables(std::slice::from_ref(&row)).whole(&[row.row().key().table()], 1, 0).concat();
        let changes: Vec<_> = Update::new(&update).changes().map(Result::unwrap).collect();
        prop_assert_eq!(changes[1], Change::Upsert(row.row()));
    }

    #[test]
    fn no_octets_make_a_reader_panic_and_nothing_follows_what_is_malformed(
        octets in prop::collection::vec(prop_oneof![0..6u8, any::<u8>()], 0..120),
    ) {
        let changes: Vec<_> = Update::new(&octets).changes().collect();
        let bad = changes.iter().position(Result::is_err);
        prop_assert!(bad.is_none_or(|at| at + 1 == changes.len()));
    }
}

/// An update with one record.
fn record(operation: u8, table: u8, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut octets = vec![operation, table, key.len() as u8, 0, value.len() as u8, 0, 0, 0];
    for part in [key, value] {
        octets.extend(part);
        octets.resize(octets.len().next_multiple_of(8), 0);
    }
    octets
}

#[test]
fn what_is_wrong_with_an_update_is_said() {
    let endpoint = |last: u8| Endpoint { address: [10, 0, 0, last].into(), port: 80 };
    let unsorted = Endpoint::encode_all(&[endpoint(2), endpoint(1)]);
    let mut range = [0; 20];
    (range[15], range[16]) = (1, 127);
    let mut nowhere = [0; 16];
    nowhere[12] = 9;
    // from port 1 to port 0
    let mut backwards = [0; 24];
    backwards[16] = 1;
    for (octets, wrong) in [
        (record(1, 1, &[], &[])[..7].to_vec(), Malformed::Truncated),
        (record(3, 2, &[1, 0, 0, 0], &[])[..12].to_vec(), Malformed::Truncated),
        (record(9, 1, &[], &[]), Malformed::Operation(9)),
        (record(1, 11, &[], &[]), Malformed::Table(11)),
        (record(3, 1, &[0; 20], &[]), Malformed::Key(Table::Services)),
        (record(3, 2, &[0; 4], &[]), Malformed::Key(Table::Endpoints)),
        (record(3, 3, &range, &[]), Malformed::Key(Table::Ranges)),
        (record(3, 8, &[0; 24], &[]), Malformed::Key(Table::Sources)),
        (record(2, 2, &[1, 0, 0, 0], &[]), Malformed::Value(Table::Endpoints)),
        (record(2, 2, &[1, 0, 0, 0], &unsorted), Malformed::Value(Table::Endpoints)),
        (record(3, 4, &[0; 4], &[]), Malformed::Key(Table::Owners)),
        (record(2, 4, &[0; 16], &nowhere), Malformed::Value(Table::Owners)),
        (record(3, 5, &[0; 4], &[]), Malformed::Key(Table::Identities)),
        (record(2, 5, &[1, 0, 0, 0], &[1; 8]), Malformed::Value(Table::Identities)),
        (record(2, 6, &[1, 0, 0, 0], &[]), Malformed::Value(Table::Blocks)),
        (record(2, 6, &[1, 0, 0, 0], &range), Malformed::Value(Table::Blocks)),
        (record(3, 7, &[0; 4], &[]), Malformed::Key(Table::Policies)),
        (record(2, 7, &[1, 0, 0, 0], &[0; 7]), Malformed::Value(Table::Policies)),
        (record(2, 7, &[1, 0, 0, 0], &backwards), Malformed::Value(Table::Policies)),
        (record(3, 9, &[0; 3], &[]), Malformed::Key(Table::Domains)),
        (record(2, 9, &[1, 0, 0, 0], b"*.com"), Malformed::Value(Table::Domains)),
        (record(2, 9, &[1, 0, 0, 0], b"a.\xff"), Malformed::Value(Table::Domains)),
        (record(3, 10, &[0; 4], &[]), Malformed::Key(Table::Resolvers)),
        (record(2, 10, &[0; 16], &[0]), Malformed::Value(Table::Resolvers)),
        (record(4, 0, &[1; 4], &[]), Malformed::Generation),
    ] {
        let outcome: Vec<_> = Update::new(&octets).changes().collect();
        assert_eq!(outcome, [Err(wrong)], "{octets:?}");
        assert!(!wrong.to_string().is_empty());
    }
}
