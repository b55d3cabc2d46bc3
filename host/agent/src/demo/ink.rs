//! How the demo's texts look: wrapped at 80 columns, and coloured on a terminal.

use std::io::{self, IsTerminal};

/// Whether there is colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// For a terminal.
    Colour,
    /// For a file, a pipe, or somebody who asked for it.
    Plain,
}

/// What a colour stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// A heading.
    Heading,
    /// Where a command is typed.
    Prompt,
    /// What a command printed.
    Output,
    /// A claim that held.
    Good,
    /// A claim that did not.
    Bad,
}

impl Ink {
    /// What suits standard output; `NO_COLOR` (no-color.org) is heeded.
    pub(super) fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if io::stdout().is_terminal() && !unwanted { Self::Colour } else { Self::Plain }
    }

    /// The text in its tone.
    pub(super) fn paint(self, tone: Tone, text: &str) -> String {
        // select graphic rendition (ECMA-48)
        let code = match tone {
            _ if self == Self::Plain => return text.to_owned(),
            Tone::Heading => "1",
            Tone::Prompt => "36",
            Tone::Output => "2",
            Tone::Good => "32",
            Tone::Bad => "1;31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Lines of at most `width` characters, broken between words.
pub(super) fn wrap(words: impl IntoIterator<Item = impl AsRef<str>>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        let word = word.as_ref();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A word as a shell has to be given it.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_never_in_one() {
        let lines = wrap("one two three incomprehensibilities ▸ five".split(' '), 9);
        assert_eq!(lines, ["one two", "three", "incomprehensibilities", "▸ five"]);
    }

    #[test]
    fn a_word_survives_the_shell() {
        let words = ["--first", r#"{"a": 1}"#, "it's", ""];
        for word in words {
            let echo = format!("printf %s {}", quoted(word));
            let output = std::process::Command::new("sh").args(["-c", &echo]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), word);
        }
        assert_eq!(quoted("--port=a,kind=pod"), "--port=a,kind=pod");
    }

    #[test]
    fn there_is_no_escape_without_colour() {
        assert_eq!(Ink::Plain.paint(Tone::Bad, "no"), "no");
        assert_eq!(Ink::Colour.paint(Tone::Good, "yes"), "\x1b[32myes\x1b[0m");
    }
}
