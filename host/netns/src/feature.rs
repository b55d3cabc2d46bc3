//! Offload features of a link, and the names people call them by.
//!
//! Owns the names: every feature has one of the kernel's, and a few go by a shorter one that
//! `ethtool -K` taught everybody, some of which stand for several features.

use crate::EthtoolError;

/// One offload feature of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The kernel's name, such as `tx-checksum-ip-generic`.
    pub name: String,
    /// Whether it is on.
    pub active: bool,
    /// Whether somebody wants it on; it may be off nevertheless for want of another.
    pub requested: bool,
    /// Whether it can be changed on this link.
    pub changeable: bool,
    /// Its bit among the kernel's features.
    pub(crate) bit: usize,
}

impl Feature {
    /// Whether `name` means this feature: the kernel's name or a short one.
    fn is_called(&self, name: &str) -> bool {
        let short = SHORT_NAMES.iter().find(|(short, _)| *short == name);
        let pattern = short.map_or(name, |(_, pattern)| pattern);
        match pattern.split_once('*') {
            Some((start, end)) => {
                self.name.strip_prefix(start).is_some_and(|rest| rest.ends_with(end))
            }
            None => self.name == pattern,
        }
    }
}

/// The features that `name` stands for; never none.
pub(crate) fn called<'a>(
    features: &'a [Feature],
    name: &str,
) -> Result<Vec<&'a Feature>, EthtoolError> {
    let found: Vec<&Feature> = features.iter().filter(|feature| feature.is_called(name)).collect();
    if found.is_empty() {
        let known = features.iter().map(|feature| feature.name.clone()).collect();
        return Err(EthtoolError::UnknownFeature { name: name.to_owned(), known });
    }
    Ok(found)
}

/// What option `-K` of ethtool(8) calls them, and the kernel's names with at most one `*`.
const SHORT_NAMES: [(&str, &str); 9] = [
    ("rx", "rx-checksum"),
    ("tx", "tx-checksum-*"),
    ("sg", "tx-scatter-gather*"),
    ("tso", "tx-tcp*-segmentation"),
    ("gso", "tx-generic-segmentation"),
    ("gro", "rx-gro"),
    ("lro", "rx-lro"),
    ("rxvlan", "rx-vlan-hw-parse"),
    ("txvlan", "tx-vlan-hw-insert"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn features(names: &[&str]) -> Vec<Feature> {
        let feature = |(bit, name): (usize, &&str)| Feature {
            name: (*name).to_owned(),
            active: true,
            requested: true,
            changeable: true,
            bit,
        };
        names.iter().enumerate().map(feature).collect()
    }

    fn bits(features: &[Feature], name: &str) -> Vec<usize> {
        called(features, name).unwrap().into_iter().map(|feature| feature.bit).collect()
    }

    #[test]
    fn a_short_name_stands_for_every_feature_of_its_family() {
        let features = features(&[
            "tx-checksum-ipv4",
            "rx-checksum",
            "tx-checksum-sctp",
            "tx-tcp-segmentation",
            "tx-tcp6-segmentation",
            "tx-udp-segmentation",
        ]);
        assert_eq!(bits(&features, "tx"), [0, 2]);
        assert_eq!(bits(&features, "rx"), [1]);
        assert_eq!(bits(&features, "tso"), [3, 4]);
    }

    #[test]
    fn a_name_without_a_family_stands_for_one_feature() {
        let features = features(&["rx-gro-hw", "rx-gro", "rx-gro-list"]);
        assert_eq!(bits(&features, "gro"), [1]);
        assert_eq!(bits(&features, "rx-gro-list"), [2]);
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = called(&features(&["rx-gro"]), "rx-grow").unwrap_err();
        assert!(error.to_string().contains("`rx-grow`"), "{error}");
        assert!(error.to_string().contains("`rx-gro`"), "{error}");
    }
}
