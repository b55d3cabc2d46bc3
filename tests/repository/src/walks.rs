//! The breadcrumbs of the walks that lead a reader from file to file.
//!
//! A file on a walk opens with its place there, ``//! Walk `packet` 5/7: chain → **sandbox** →
//! rewrite.``, one line. Breadcrumbs must agree with their neighbours; once a walk has a first
//! step, it has all of them.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{Complaint, TextFile};

/// The walks that there are: a packet's, a change of configuration's, a pod's.
pub const WALKS: &[&str] = &["packet", "control", "pod"];

/// Breadcrumbs that lead astray.
pub fn complaints(files: &[TextFile]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut walks: BTreeMap<&str, Vec<Step>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let is_breadcrumb = |line: &str| line.starts_with("//! Walk `");
        let opening = file.lines().take_while(|(_, line)| is_breadcrumb(line)).count();
        for (number, line) in file.lines().filter(|(_, line)| is_breadcrumb(line)) {
            let mut complain = |what| complaints.push(Complaint::at(&file.path, number, what));
            if number > opening {
                complain("a breadcrumb is the first line of its file".to_owned());
            }
            match Step::parse(&file.path, line) {
                Some(step) => match step.flaw() {
                    None => walks.entry(step.walk).or_default().push(step),
                    Some(flaw) => complain(flaw),
                },
                None => complain(format!("a breadcrumb looks like this: {EXAMPLE}")),
            }
        }
    }
    for steps in walks.values_mut() {
        steps.sort_by_key(|step| step.number);
        complaints.extend(gaps(steps));
        complaints.extend(steps.windows(2).filter_map(disagreement));
    }
    complaints
}

/// A file's place on a walk.
#[derive(Debug)]
struct Step<'a> {
    path: &'a Path,
    walk: &'a str,
    number: usize,
    total: usize,
    before: Option<&'a str>,
    here: &'a str,
    after: Option<&'a str>,
}

impl<'a> Step<'a> {
    fn parse(path: &'a Path, line: &'a str) -> Option<Self> {
        let (walk, rest) = line.strip_prefix("//! Walk `")?.split_once("` ")?;
        let (place, names) = rest.strip_suffix('.')?.split_once(": ")?;
        let (number, total) = place.split_once('/')?;
        let mut names = names.split(" → ");
        let (mut before, mut here) = (None, names.next()?);
        if !here.starts_with("**") {
            (before, here) = (Some(here), names.next()?);
        }
        let here = here.strip_prefix("**")?.strip_suffix("**")?;
        let after = names.next();
        let complete = names.next().is_none();
        let (number, total) = (number.parse().ok()?, total.parse().ok()?);
        complete.then_some(Self { path, walk, number, total, before, here, after })
    }

    /// What is wrong with the step, whatever the others say.
    fn flaw(&self) -> Option<String> {
        let Self { walk, number, total, .. } = self;
        if !WALKS.contains(walk) {
            return Some(format!("there is no walk `{walk}`, only {}", WALKS.join(", ")));
        }
        if !(1..=*total).contains(number) {
            return Some(format!("there is no step {number} of {total}"));
        }
        if self.before.is_some() != (*number > 1) {
            return Some("every step but the first names the one before".to_owned());
        }
        if self.after.is_some() != (number < total) {
            return Some("every step but the last names the one after".to_owned());
        }
        None
    }
}

/// The steps that a walk with a first step lacks.
fn gaps(steps: &[Step]) -> Option<Complaint> {
    let first = steps.first().filter(|step| step.number == 1)?;
    let missing: Vec<_> = (1..=first.total)
        .filter(|number| !steps.iter().any(|step| step.number == *number))
        .map(|number| number.to_string())
        .collect();
    let message = format!("walk `{}` has no step {}", first.walk, missing.join(", "));
    (!missing.is_empty()).then(|| Complaint::about(first.path, message))
}

/// What two steps, each other's nearest on a walk, do not agree on.
fn disagreement(pair: &[Step]) -> Option<Complaint> {
    let [left, right] = pair else { return None };
    let other = left.path.display();
    let message = if left.total != right.total {
        format!("the walk has {} steps, and {} in {other}", right.total, left.total)
    } else if left.number == right.number {
        format!("step {} of the walk is {other} already", right.number)
    } else if left.number + 1 == right.number
        && (left.after, Some(left.here)) != (Some(right.here), right.before)
    {
        let (after, before) = (left.after.unwrap_or_default(), right.before.unwrap_or_default());
        format!(
            "the walk leads from `{before}` to `{}`, but from `{}` to `{after}` in {other}",
            right.here, left.here
        )
    } else {
        return None;
    };
    Some(Complaint::about(right.path, message))
}

const EXAMPLE: &str = "``//! Walk `packet` 5/7: chain → **sandbox** → rewrite.``";

#[cfg(test)]
mod tests {
    use super::*;

    /// The complaints about files with these first lines, one file each.
    fn messages(lines: &[&str]) -> Vec<String> {
        let file = |(index, line): (usize, &&str)| TextFile {
            path: format!("{index}.rs").into(),
            text: format!("//! {line}\n//!\n//! What the file is.\n"),
        };
        let files: Vec<_> = lines.iter().enumerate().map(file).collect();
        complaints(&files).iter().map(ToString::to_string).collect()
    }

    fn is_refused(lines: &[&str], because: &str) {
        let messages = messages(lines);
        assert!(messages.len() == 1 && messages[0].contains(because), "{because}: {messages:?}");
    }

    #[test]
    fn a_whole_walk_is_accepted() {
        let walk = [
            "Walk `pod` 2/3: ask → **answer** → attach.",
            "Walk `pod` 1/3: **ask** → answer.",
            "Walk `pod` 3/3: answer → **attach**.",
        ];
        assert_eq!(messages(&walk), [""; 0]);
    }

    #[test]
    fn a_walk_without_its_first_step_is_still_being_laid_out() {
        assert_eq!(messages(&["Walk `packet` 5/7: chain → **sandbox** → rewrite."]), [""; 0]);
    }

    #[test]
    fn a_walk_with_its_first_step_has_all() {
        is_refused(&["Walk `pod` 1/3: **ask** → answer."], "has no step 2, 3");
    }

    #[test]
    fn neighbours_agree_on_names_numbers_and_totals() {
        let left = "Walk `packet` 5/7: chain → **sandbox** → rewrite.";
        let refused = |right, because| is_refused(&[left, right], because);
        refused("Walk `packet` 6/7: sandbox → **apply** → dispatch.", "to `rewrite` in 0.rs");
        refused("Walk `packet` 6/7: guest → **rewrite** → dispatch.", "from `guest` to `rewrite`");
        refused("Walk `packet` 6/8: sandbox → **rewrite** → dispatch.", "8 steps, and 7 in 0.rs");
        refused("Walk `packet` 5/7: chain → **sandbox** → rewrite.", "is 0.rs already");
    }

    #[test]
    fn steps_of_different_walks_have_nothing_to_agree_on() {
        let lines = ["Walk `packet` 5/7: a → **b** → c.", "Walk `control` 6/9: x → **y** → z."];
        assert_eq!(messages(&lines), [""; 0]);
    }

    #[test]
    fn a_breadcrumb_of_another_form_is_refused() {
        let example = "looks like this";
        is_refused(&["Walk `packet` 5: chain → **sandbox** → rewrite."], example);
        is_refused(&["Walk `packet` 5/7: chain → sandbox → rewrite."], example);
        is_refused(&["Walk `packet` 5/7: chain → **sandbox** → rewrite → more."], example);
        is_refused(&["Walk `packet` 5/7: chain → **sandbox** → rewrite"], example);
        is_refused(&["Walk `bucket` 5/7: chain → **sandbox** → rewrite."], "no walk `bucket`");
        is_refused(&["Walk `packet` 8/7: chain → **sandbox** → rewrite."], "no step 8 of 7");
        is_refused(&["Walk `packet` 5/7: **sandbox** → rewrite."], "names the one before");
        is_refused(&["Walk `packet` 5/7: chain → **sandbox**."], "names the one after");
    }

    #[test]
    fn a_breadcrumb_comes_first_and_a_file_may_be_on_two_walks() {
        let (packet, control) =
            ("Walk `packet` 5/7: a → **b** → c.", "Walk `control` 5/7: a → **b** → c.");
        assert_eq!(messages(&[&format!("{packet}\n//! {control}")]), [""; 0]);
        is_refused(&[&format!("A file.\n//! {packet}")], "first line");
    }
}
