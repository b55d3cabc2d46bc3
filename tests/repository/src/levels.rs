//! Which crate may depend on which.
//!
//! Arrows point down: a crate knows the levels below its own, and no sibling. Tests of a crate
//! may also make network namespaces.

use crate::{Complaint, Package, Purpose};

/// The crates, from the bottom up. A name may stand here before its crate does.
pub const LEVELS: &[&[&str]] = &[
    &[
        "millrace-abi",
        "millrace-cni",
        "millrace-fastpath",
        "millrace-filter-macros",
        "millrace-guest-build",
        "millrace-netns",
        "millrace-tables",
        "millrace-wire",
        "millrace-xsk",
    ],
    &["millrace-parse"],
    &["millrace-filter", "millrace-sandbox"],
    &[
        "millrace-bridge",
        "millrace-builtin",
        "millrace-control",
        "millrace-dataplane",
        "millrace-deny-list",
        "millrace-dns-log",
        "millrace-policy",
        "millrace-rate-limit",
        "millrace-router",
        "millrace-service-lb",
        "millrace-static-nat",
    ],
    &[
        "millrace-kube",
        "millrace-lab",
        "millrace-registry",
        "millrace-rehearsal",
        "millrace-traffic",
    ],
    &["millrace"],
    &[
        "millrace-bench",
        "millrace-conformance-tests",
        "millrace-fuzz",
        "millrace-packet-tests",
        "millrace-repository-tests",
    ],
];

/// Dependencies that break the order, and crates that have no place in it.
pub fn complaints(packages: &[Package]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for package in packages {
        let mut complain = |message| complaints.push(Complaint::about(&package.manifest, message));
        let Some(level) = level(&package.name) else {
            complain(format!(
                "`{}` has no level: give it one in {TABLE}, the lowest that is above all it uses",
                package.name
            ));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|other| other.path.is_some()) {
            let name = &dependency.name;
            let grounded = dependency.purpose == Purpose::Dev && name == GROUND_OF_TESTS;
            match self::level(name) {
                _ if grounded => {}
                Some(below) if below < level => {}
                Some(other) => complain(format!(
                    "`{}` (level {level}) depends on `{name}` (level {other}), and may only on \
                     lower levels: move what both need down, or the code that joins them up",
                    package.name
                )),
                None => complain(format!("`{name}`, which it depends on, has no level in {TABLE}")),
            }
        }
    }
    complaints
}

fn level(name: &str) -> Option<usize> {
    LEVELS.iter().position(|level| level.contains(&name))
}

/// Tests on every level need a namespace to play in.
const GROUND_OF_TESTS: &str = "millrace-netns";
const TABLE: &str = "tests/repository/src/levels.rs";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dependency;

    fn package(name: &str, dependencies: &[(&str, Purpose)]) -> Package {
        let dependency = |&(name, purpose): &(&str, Purpose)| Dependency {
            name: name.into(),
            purpose,
            path: Some("somewhere".into()),
        };
        Package {
            name: name.into(),
            manifest: "crate/Cargo.toml".into(),
            dependencies: dependencies.iter().map(dependency).collect(),
            targets: Vec::new(),
        }
    }

    fn messages(name: &str, dependencies: &[(&str, Purpose)]) -> Vec<String> {
        let complaints = complaints(&[package(name, dependencies)]);
        complaints.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn no_name_has_two_levels() {
        let mut names = LEVELS.concat();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn a_dependency_on_a_lower_level_is_fine_for_every_purpose() {
        for purpose in [Purpose::Normal, Purpose::Build, Purpose::Dev] {
            assert_eq!(messages("millrace-filter", &[("millrace-abi", purpose)]), [""; 0]);
        }
    }

    #[test]
    fn a_sibling_and_a_higher_level_are_refused_for_every_purpose() {
        for purpose in [Purpose::Normal, Purpose::Build, Purpose::Dev] {
            for other in ["millrace-sandbox", "millrace-lab"] {
                let messages = messages("millrace-filter", &[(other, purpose)]);
                assert_eq!(messages.len(), 1);
                assert!(messages[0].contains(&format!("depends on `{other}`")), "{messages:?}");
            }
        }
    }

    #[test]
    fn namespaces_are_for_the_tests_of_every_level() {
        assert_eq!(messages("millrace-xsk", &[("millrace-netns", Purpose::Dev)]), [""; 0]);
        assert_eq!(messages("millrace-xsk", &[("millrace-netns", Purpose::Normal)]).len(), 1);
    }

    #[test]
    fn a_crate_without_a_level_is_named() {
        assert!(messages("millrace-new", &[])[0].contains("`millrace-new` has no level"));
        let unknown = messages("millrace-lab", &[("millrace-new", Purpose::Normal)]);
        assert!(unknown[0].contains("`millrace-new`, which it depends on"), "{unknown:?}");
    }

    #[test]
    fn crates_from_elsewhere_have_no_level_and_need_none() {
        let mut package = package("millrace-abi", &[("serde", Purpose::Normal)]);
        package.dependencies[0].path = None;
        assert_eq!(complaints(&[package]), []);
    }
}
