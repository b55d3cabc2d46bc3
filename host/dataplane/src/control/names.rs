//! Names that people mistype: which one they may have meant, and which there are.

/// Which of `names` was meant by `wanted`, if one is close to it.
pub fn near_miss<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let near = names.into_iter().map(|name| (distance(wanted, name), name));
    // one slip in a short name, more in a longer one
    let near = near.filter(|(slips, name)| slips * 3 <= name.chars().count());
    near.min_by_key(|(slips, _)| *slips).map(|(_, name)| name)
}

/// What to say when `wanted` is none of `names`, behind "there is no such thing; ".
pub(super) fn present<'n>(wanted: &str, names: impl Iterator<Item = &'n str> + Clone) -> String {
    let quoted: Vec<_> = names.clone().map(|name| format!("`{name}`")).collect();
    let there_are = match quoted.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there are: {}", quoted.join(", ")),
    };
    match near_miss(wanted, names) {
        Some(near) => format!("did you mean `{near}`? {there_are}"),
        None => there_are,
    }
}

/// How many letters have to be changed, added, left out, or put behind the next one, to make one
/// name of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for row in 1..=a.len() {
        let mut next = vec![row];
        for column in 1..=b.len() {
            let changed = last[column - 1] + usize::from(a[row - 1] != b[column - 1]);
            let mut least = changed.min(last[column] + 1).min(next[column - 1] + 1);
            if row > 1 && column > 1 && a[row - 1] == b[column - 2] && a[row - 2] == b[column - 1] {
                let twisted: &[usize] = &before_last;
                least = least.min(twisted[column - 2] + 1);
            }
            next.push(least);
        }
        before_last = std::mem::replace(&mut last, next);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 4] = ["bridge", "deny-list", "dns-log", "veth-a"];

    #[test]
    fn a_slip_is_understood_and_another_word_is_not() {
        for (wanted, meant) in [
            ("brigde", Some("bridge")),
            ("bridg", Some("bridge")),
            ("denylist", Some("deny-list")),
            ("deny_lists", Some("deny-list")),
            ("veth-b", Some("veth-a")),
            ("firewall", None),
            ("", None),
        ] {
            assert_eq!(near_miss(wanted, NAMES), meant, "{wanted}");
        }
    }

    #[test]
    fn the_distance_counts_each_slip_once() {
        for (a, b, slips) in
            [("", "", 0), ("", "abc", 3), ("abc", "abc", 0), ("abc", "acb", 1), ("abc", "xbcd", 2)]
        {
            assert_eq!((distance(a, b), distance(b, a)), (slips, slips), "{a} {b}");
        }
    }

    #[test]
    fn what_there_is_is_said_with_or_without_a_near_miss() {
        let said = |wanted| present(wanted, NAMES.into_iter().take(2));
        assert_eq!(said("brigde"), "did you mean `bridge`? there are: `bridge`, `deny-list`");
        assert_eq!(said("x"), "there are: `bridge`, `deny-list`");
        assert_eq!(present("x", [].into_iter()), "there are none");
    }
}
