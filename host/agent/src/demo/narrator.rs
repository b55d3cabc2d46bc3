//! What the demo says, and its book: each claim is checked where it is made, said there, and said
//! again at the end. What is only measured stands there too, and is judged by nobody: how fast
//! things are depends on who else uses this machine.
//!
//! Nothing it prints is wider than 80 columns, as long as nobody hands it longer words or claims.

use std::io::{self, Write};
use std::time::Duration;

use crate::demo::ink::{Ink, Tone, quoted, wrap};
use crate::demo::lab::Cleared;

/// Who explains.
pub(super) struct Narrator {
    ink: Ink,
    /// Acts so far.
    acts: u32,
    book: Vec<Entry>,
}

/// Something that was said to be so, or measured.
struct Entry {
    text: &'static str,
    /// What was seen of it.
    seen: String,
    verdict: Verdict,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Held,
    Failed,
    Measured,
}

impl Narrator {
    /// One who has said nothing.
    pub(super) fn new() -> Self {
        Self { ink: Ink::of_stdout(), acts: 0, book: Vec::new() }
    }

    /// Says what this is.
    pub(super) fn open(&self) {
        let title = concat!("millrace ", env!("CARGO_PKG_VERSION"), ": packets turn wheels");
        say(&self.ink.paint(Tone::Heading, title));
    }

    /// Begins an act.
    pub(super) fn act(&mut self, title: &str, text: &str) {
        self.acts += 1;
        let heading = format!("{:>2}  {title}", self.acts);
        say("");
        say(&self.ink.paint(Tone::Heading, &heading));
        self.tell(text);
        say("");
    }

    /// Says something.
    pub(super) fn tell(&self, text: &str) {
        for line in wrap(text.split_whitespace(), WIDTH - INDENT.len()) {
            say(&format!("{INDENT}{line}"));
        }
    }

    /// Parts what follows from what was said.
    pub(super) fn gap(&self) {
        say("");
    }

    /// A command, as it can be typed at the place called `place`.
    pub(super) fn command(&self, place: &str, words: &[&str]) {
        let prompt = format!("{place}# ");
        // a backslash has to fit behind all lines but the last
        let width = WIDTH - INDENT.len() - prompt.len() - " \\".len();
        let lines = wrap(clauses(words), width);
        let last = lines.len() - 1;
        for (at, line) in lines.iter().enumerate() {
            let margin = match at {
                0 => self.ink.paint(Tone::Prompt, &prompt),
                _ => " ".repeat(prompt.len()),
            };
            let more = if at < last { " \\" } else { "" };
            say(&format!("{INDENT}{margin}{line}{more}"));
        }
    }

    /// What a command printed.
    pub(super) fn output(&self, text: &str) {
        for line in text.trim_end().lines() {
            let line = format!("{INDENT}  {line}");
            say(&self.ink.paint(Tone::Output, line.trim_end()));
        }
    }

    /// How far something has come, for whoever watches.
    pub(super) fn progress(&self, done: u64, of: u64) {
        if self.ink == Ink::Plain {
            return;
        }
        // to the start of the line, and all behind it away (ECMA-48 EL)
        let mut out = io::stdout().lock();
        let text = if done < of { format!("{INDENT}{done} of {of}") } else { String::new() };
        let _ = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
    }

    /// Claims something, and says what was seen of it.
    pub(super) fn claim(&mut self, held: bool, text: &'static str, seen: impl Into<String>) {
        self.enter(if held { Verdict::Held } else { Verdict::Failed }, text, seen.into());
    }

    /// Says what was measured.
    pub(super) fn measure(&mut self, text: &'static str, seen: impl Into<String>) {
        self.enter(Verdict::Measured, text, seen.into());
    }

    /// How many claims did not hold.
    pub(super) fn failures(&self) -> usize {
        self.count(Verdict::Failed)
    }

    /// Says how to look around.
    pub(super) fn invite(&self, places: &[String]) {
        say("");
        self.tell("All of this stays until you press Ctrl-C. In another shell:");
        places.iter().for_each(|place| say(&format!("{INDENT}  {place}")));
    }

    /// Says everything that was claimed, and how it ends.
    pub(super) fn close(&mut self, cleared: &anyhow::Result<Cleared>, elapsed: Duration) {
        self.act("In short", "");
        self.book.iter().for_each(|entry| self.say_entry(entry));
        match cleared {
            Ok(Cleared { namespaces }) => {
                let seen = format!("{namespaces} namespaces and the host removed");
                self.claim(true, "nothing is left behind", seen);
            }
            Err(error) => self.claim(false, "nothing is left behind", format!("{error:#}")),
        }
        let (held, failures) = (self.count(Verdict::Held), self.failures());
        let seconds = elapsed.as_secs_f64();
        let (tone, end) = match failures {
            0 => (Tone::Good, format!("All {held} claims held, in {seconds:.0} s.")),
            _ => (Tone::Bad, format!("{failures} of {} claims did not hold.", held + failures)),
        };
        say("");
        say(&format!("{INDENT}{}", self.ink.paint(tone, &end)));
    }

    fn enter(&mut self, verdict: Verdict, text: &'static str, seen: String) {
        let entry = Entry { text, seen, verdict };
        self.say_entry(&entry);
        self.book.push(entry);
    }

    fn say_entry(&self, Entry { text, seen, verdict }: &Entry) {
        let mark = match verdict {
            Verdict::Held => self.ink.paint(Tone::Good, "✓"),
            Verdict::Failed => self.ink.paint(Tone::Bad, "✗"),
            Verdict::Measured => "·".to_owned(),
        };
        say(&format!("{INDENT}{mark} {text:<CLAIM$} {seen}"));
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.book.iter().filter(|entry| entry.verdict == verdict).count()
    }
}

/// The words of a command as a shell has to be given them, each flag together with its value.
fn clauses(words: &[&str]) -> Vec<String> {
    let mut clauses: Vec<String> = Vec::new();
    for word in words {
        match clauses.last_mut() {
            Some(flag) if is_flag(flag) && !is_flag(word) => {
                flag.push(' ');
                flag.push_str(&quoted(word));
            }
            _ => clauses.push(quoted(word)),
        }
    }
    clauses
}

fn is_flag(word: &str) -> bool {
    word.starts_with('-') && !word.contains(' ')
}

fn say(line: &str) {
    // whoever stops reading does not stop the demo, which has to clear up
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Columns of the narrowest terminal.
const WIDTH: usize = 80;
/// Before everything but headings.
const INDENT: &str = "    ";
/// Columns of what is claimed; what was seen of it comes behind.
const CLAIM: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_stays_with_its_value() {
        let words = ["run", "--port", "alice", "--first", "--config", r#"{"a": 1}"#];
        assert_eq!(clauses(&words), ["run", "--port alice", "--first", r#"--config '{"a": 1}'"#]);
    }

    #[test]
    fn claims_that_do_not_hold_are_counted_and_measurements_are_not() {
        let mut narrator = Narrator::new();
        narrator.claim(true, "water is wet", "a puddle");
        narrator.claim(false, "the moon is cheese", "a stone");
        narrator.measure("the sun is hot", "6,000 K");
        assert_eq!((narrator.failures(), narrator.count(Verdict::Held)), (1, 1));
    }
}
