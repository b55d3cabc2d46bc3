//! What should become of the packets of a capture: a text file, a line for each packet.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// What should become of each packet, in order.
#[derive(Debug)]
pub(super) struct Expectations {
    /// The name of the file.
    file: String,
    lines: Vec<Line>,
}

/// What should become of a packet.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// Its number in the file.
    number: usize,
    /// Words that a verdict begins with.
    words: Vec<String>,
}

impl Expectations {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read, or a line expects what no packet can do.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let file = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| file.clone())?;
        Self::parse(file, &text)
    }

    /// Compares what became of packets, each with a few words about it, with what should.
    ///
    /// # Errors
    /// Every difference, for people to read.
    pub(super) fn compare(&self, verdicts: &[(String, String)]) -> anyhow::Result<()> {
        let Self { file, lines } = self;
        let (mut differ, mut text) = (0, String::new());
        for (packet, (line, (what, verdict))) in (1..).zip(lines.iter().zip(verdicts)) {
            if !line.matches(verdict) {
                differ += 1;
                let (number, expected) = (line.number, line.words.join(" "));
                write!(
                    text,
                    "\npacket {packet}: {what}\n  - {expected:<28} expected, {file}:{number}\n  + \
                     {verdict}"
                )
                .expect("a String takes everything");
            }
        }
        if lines.len() != verdicts.len() {
            let (expected, there) = (lines.len(), verdicts.len());
            bail!("{file} speaks of {expected} packets, and the capture has {there}{text}");
        }
        if differ > 0 {
            bail!("{differ} of {} packets did not do as expected{text}", lines.len());
        }
        Ok(())
    }

    fn parse(file: String, text: &str) -> anyhow::Result<Self> {
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let said = line.split('#').next().unwrap_or_default();
            let words: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
            match words.first().map(String::as_str) {
                None => continue,
                Some(verdict) if VERDICTS.contains(&verdict) => lines.push(Line { number, words }),
                Some(other) => bail!(
                    "{file}:{number}: `{other}` is nothing that becomes of a packet; there are {}",
                    VERDICTS.map(|verdict| format!("`{verdict}`")).join(", ")
                ),
            }
        }
        Ok(Self { file, lines })
    }
}

impl Line {
    /// A verdict may say more than is expected, behind that.
    fn matches(&self, verdict: &str) -> bool {
        let mut said = verdict.split_whitespace();
        self.words == ["*"] || self.words.iter().all(|word| said.next() == Some(word))
    }
}

/// What becomes of packets, and what stands for all of that.
const VERDICTS: [&str; 7] = ["pass", "forward", "flood", "answer", "drop", "reject", "*"];

#[cfg(test)]
mod tests {
    use super::*;

    fn compare(expected: &str, verdicts: &[&str]) -> Result<(), String> {
        let expected = Expectations::parse("e".into(), expected).unwrap();
        let verdicts: Vec<_> =
            verdicts.iter().map(|verdict| ("a packet".into(), (*verdict).into())).collect();
        expected.compare(&verdicts).map_err(|error| error.to_string())
    }

    #[test]
    fn less_may_be_expected_than_there_is_to_say() {
        let happened = ["pass rewritten", "drop denied by closed", "forward b", "flood"];
        for expected in [
            "pass rewritten\ndrop denied by closed\nforward b\nflood",
            "pass\ndrop denied\nforward\n*",
            "# all\n\n  pass # first\ndrop\n*\nflood",
        ] {
            assert_eq!(compare(expected, &happened), Ok(()), "{expected}");
        }
    }

    #[test]
    fn every_difference_is_shown_with_its_packet_and_line() {
        let error = compare("pass\n\ndrop denied\npass", &["pass", "pass", "drop denied by x"]);
        assert_eq!(
            error.unwrap_err(),
            "2 of 3 packets did not do as expected\n\
             packet 2: a packet\n  - drop denied                  expected, e:3\n  + pass\n\
             packet 3: a packet\n  - pass                         expected, e:4\n  + drop denied by x"
        );
    }

    #[test]
    fn more_or_fewer_packets_than_expected_are_a_difference() {
        for verdicts in [&["pass"][..], &["pass", "pass", "pass"]] {
            let error = compare("pass\npass", verdicts).unwrap_err();
            assert!(error.starts_with("e speaks of 2 packets, and the capture has"), "{error}");
        }
    }

    #[test]
    fn a_line_that_nothing_can_fulfil_is_refused() {
        let error = Expectations::parse("e".into(), "pass\nallow\n").unwrap_err().to_string();
        assert!(error.starts_with("e:2: `allow` is nothing that becomes of a packet"), "{error}");
    }
}
