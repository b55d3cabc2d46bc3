//! The compiled tables and the compiled filter against a second reading of the rules: random
//! clusters, each made of the one before as changes are, and every connection that they can have.
//!
//! - `naive`: what the rules say, read one by one with nothing remembered
//! - `clusters`: random worlds; `space`: all of a space of policies

mod clusters;
mod naive;
mod space;

use std::cell::RefCell;

use millrace_control::World;
use millrace_rehearsal::{Answer, End, Rehearsal, Traffic, Verdict};
use proptest::prelude::*;

/// Protocols and ports that policies may be about, and that none is.
const TRAFFIC: [Traffic; 7] = [
    Traffic { protocol: 6, port: 80 },
    Traffic { protocol: 6, port: 81 },
    Traffic { protocol: 6, port: 9999 },
    Traffic { protocol: 17, port: 80 },
    Traffic { protocol: 17, port: 53 },
    Traffic { protocol: 132, port: 80 },
    Traffic { protocol: 1, port: 0 },
];

/// Every end that a connection can have: pods, nodes, and somebody outside.
fn ends(world: &World) -> Vec<End> {
    let pods = world.pods.keys().cloned().map(End::Pod);
    let nodes = world.nodes.keys().cloned().map(End::Node);
    let outside = ["198.51.100.1", "10.1.9.9", "2001:db8::1"];
    let outside = outside.map(|text| End::Address(text.parse().expect("an address")));
    pods.chain(nodes).chain(outside).collect()
}

/// Whether it is made although audited policies would deny it.
fn is_audited(answer: &Answer) -> bool {
    let names_audit = |verdict: &Verdict| matches!(verdict, Verdict::Allowed(Some(rule)) if rule.starts_with("audit alone"));
    answer.is_allowed() && answer.said.iter().any(|(_, verdict)| names_audit(verdict))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// N1 to N12 and K1 to K6, for both families, whatever was told before.
    #[test]
    fn n1_to_n12_k1_to_k6_what_the_filter_says_is_what_the_rules_say(
        worlds in prop::collection::vec(clusters::world(), 1..=12),
    ) {
        thread_local! {
            static CLUSTER: RefCell<Option<Rehearsal>> = const { RefCell::new(None) };
        }
        CLUSTER.with_borrow_mut(|kept| {
            let mut cluster = match kept.take() {
                Some(cluster) => cluster,
                None => Rehearsal::new(World::default()).expect("filters can be run here"),
            };
            for world in &worlds {
                cluster.learn(world.clone()).expect("the filter takes it");
                let ends = ends(world);
                let enforced = naive::without_audited(world);
                for (from, to) in ends.iter().flat_map(|from| ends.iter().map(move |to| (from, to))) {
                    for traffic in TRAFFIC {
                        for answer in cluster.ask(from, to, traffic).expect("it answers") {
                            let allows =
                                |world| naive::allows(world, answer.ends, (from, to), traffic);
                            let expected = allows(&enforced);
                            prop_assert_eq!(
                                answer.is_allowed(), expected,
                                "{:?} to {:?}, {:?}: {:?}", from, to, traffic, answer
                            );
                            prop_assert_eq!(
                                is_audited(&answer), expected && !allows(world),
                                "{:?} to {:?}, {:?}: {:?}", from, to, traffic, answer
                            );
                        }
                    }
                }
            }
            *kept = Some(cluster);
            Ok(())
        })?;
    }
}

/// N1 to N9, N15: all connections of pods, at each step of each case, for both families.
#[test]
fn n1_to_n15_all_of_a_space_of_policies_comes_out_as_the_rules_say() {
    let cases = space::cases();
    for (what, count) in space::COUNTS {
        let varied = cases.iter().filter(|case| case.name.starts_with(&format!("{what}: ")));
        assert_eq!(varied.count(), count, "{what}");
    }
    assert_eq!(cases.len(), 230);
    let mut cluster = Rehearsal::new(World::default()).expect("filters can be run here");
    let (mut made, mut refused) = (0, 0);
    for space::Case { name, steps } in &cases {
        for (step, world) in steps.iter().enumerate() {
            cluster.learn(world.clone()).expect("the filter takes it");
            let pods: Vec<_> = world.pods.keys().cloned().map(End::Pod).collect();
            for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))) {
                for traffic in SERVED {
                    let answers = cluster.ask(from, to, traffic).expect("it answers");
                    assert_eq!(answers.len(), 2, "both families");
                    for answer in answers {
                        let expected = naive::allows(world, answer.ends, (from, to), traffic);
                        let is = answer.is_allowed();
                        assert_eq!(
                            is, expected,
                            "{name}, step {step}: {from:?} to {to:?}, {traffic:?}: {answer:?}"
                        );
                        *(if is { &mut made } else { &mut refused }) += 1;
                    }
                }
            }
        }
    }
    assert!(made > 100_000 && refused > 10_000, "{made} made, {refused} refused");
}

/// What the pods of the space serve, and policies are about.
const SERVED: [Traffic; 7] = [
    Traffic { protocol: 6, port: 80 },
    Traffic { protocol: 6, port: 81 },
    Traffic { protocol: 17, port: 80 },
    Traffic { protocol: 17, port: 81 },
    Traffic { protocol: 132, port: 80 },
    Traffic { protocol: 132, port: 81 },
    Traffic { protocol: 17, port: 53 },
];
