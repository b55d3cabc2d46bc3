//! What filters say. A filter's lines are limited in rate and length, kept in a
//! ring of the last ones, and repeated in the host's own log.

use std::collections::VecDeque;
use std::sync::Arc;

use millrace_abi::limits::MAX_TEXT;
use millrace_abi::names::log_level;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The log of one filter, shared by its instances.
#[derive(Debug)]
pub struct FilterLog {
    filter: Arc<str>,
    state: Mutex<State>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Counts the filter's lines from 1; a gap means lines were lost from the ring.
    pub sequence: u64,
    /// When it was written, on the clock of [`now_ns`](crate::now_ns).
    pub time_ns: u64,
    /// How bad it is.
    pub level: Level,
    /// What it says, without control characters.
    pub text: String,
}

/// How bad a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// Worth knowing.
    Info,
    /// Worth knowing while looking for a fault.
    Debug,
}

impl Level {
    /// The level with this number; unknown numbers are the least bad.
    pub fn from_number(number: u32) -> Self {
        match number {
            log_level::ERROR => Self::Error,
            log_level::WARN => Self::Warn,
            log_level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }
}

#[derive(Debug)]
struct State {
    lines: VecDeque<Line>,
    written: u64,
    suppressed: u64,
    tokens: u64,
    refilled_ns: u64,
}

impl FilterLog {
    /// The log of the filter called `filter`.
    pub fn new(filter: Arc<str>) -> Self {
        let state = State {
            lines: VecDeque::new(),
            written: 0,
            suppressed: 0,
            tokens: BURST,
            refilled_ns: 0,
        };
        Self { filter, state: Mutex::new(state) }
    }

    /// Takes a line, or counts it as suppressed if the filter talks too much.
    pub fn write(&self, level: Level, text: &[u8], now_ns: u64) {
        let mut state = self.state.lock();
        if !state.admit(now_ns) {
            state.suppressed += 1;
            return;
        }
        let mut text = clean(text);
        if state.suppressed > 0 {
            text += &format!(" ({} lines suppressed before this one)", state.suppressed);
            state.suppressed = 0;
        }
        match level {
            Level::Error => tracing::error!(filter = &*self.filter, "{text}"),
            Level::Warn => tracing::warn!(filter = &*self.filter, "{text}"),
            Level::Info => tracing::info!(filter = &*self.filter, "{text}"),
            Level::Debug => tracing::debug!(filter = &*self.filter, "{text}"),
        }
        state.written += 1;
        let line = Line { sequence: state.written, time_ns: now_ns, level, text };
        if state.lines.len() == KEPT {
            state.lines.pop_front();
        }
        state.lines.push_back(line);
    }

    /// The lines after `sequence` that are still kept.
    pub fn since(&self, sequence: u64) -> Vec<Line> {
        let state = self.state.lock();
        state.lines.iter().filter(|line| line.sequence > sequence).cloned().collect()
    }
}

impl State {
    fn admit(&mut self, now_ns: u64) -> bool {
        let earned = now_ns.saturating_sub(self.refilled_ns) / NS_PER_LINE;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(BURST);
            self.refilled_ns = now_ns;
        }
        let admitted = self.tokens > 0;
        self.tokens -= u64::from(admitted);
        admitted
    }
}

/// Text from a guest, made safe to print: valid UTF-8, one line, no escapes, not too long.
pub(crate) fn clean(text: &[u8]) -> String {
    let text = &text[..text.len().min(MAX_TEXT)];
    String::from_utf8_lossy(text)
        .trim_end()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Lines kept per filter.
const KEPT: usize = 1000;
/// Lines a filter may write at once.
const BURST: u64 = 100;
/// Lines per second in the long run: 50.
const NS_PER_LINE: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_talkative_filter_is_cut_short_and_the_loss_is_said() {
        let log = FilterLog::new("chatty".into());
        for n in 0..500 {
            log.write(Level::Info, format!("line {n}").as_bytes(), 1);
        }
        assert_eq!(log.since(0).len() as u64, BURST);
        log.write(Level::Info, b"after a pause", 1_000_000_000);
        let last = log.since(BURST).pop().expect("a line after the pause");
        assert_eq!(last.text, "after a pause (400 lines suppressed before this one)");
        assert_eq!(last.sequence, BURST + 1);
    }

    #[test]
    fn text_is_one_printable_line() {
        assert_eq!(clean(b"a\x1b[2Jb\nc\xff\n"), "a [2Jb c\u{fffd}");
        assert_eq!(clean(&[b'x'; 5000]).len(), MAX_TEXT);
    }
}
