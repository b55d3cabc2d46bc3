//! `millrace top`: rates of ports, workers, filters and drops, live.
//!
//! Everything is computed from two snapshots of what is counted; drawing knows nothing of
//! hosts, and asking nothing of terminals.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Paragraph, Row, Table};

use crate::api::types::Stats;
use crate::output::{Asking, Output, age, percent, short};
use crate::show::chain;
use crate::text::Span;

/// Watch rates of ports, workers, filters and drops; q to quit.
///
/// Drops are those since the last look, by reason. A filter's load is the share of one core that
/// it takes.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace top
  millrace top --every 200ms")]
pub(crate) struct TopArgs {
    /// How often to look.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    every: Span,
    #[command(flatten)]
    asking: Asking,
}

/// Draws until somebody has seen enough.
pub(crate) fn run(args: &TopArgs) -> anyhow::Result<()> {
    anyhow::ensure!(
        args.asking.output() == Output::Table,
        "`top` draws for people; `millrace stats -o json` is for programs"
    );
    let client = args.asking.client()?;
    let every = args.every.duration().max(FASTEST);
    // before the terminal is taken: an error is to stay readable
    let mut last: Stats = client.get("/v1/stats")?;
    let mut rates = Rates::between(&last, &last);
    let mut terminal = ratatui::try_init()?;
    let watched = (|| -> anyhow::Result<()> {
        loop {
            terminal.draw(|frame| rates.draw(frame))?;
            let next_look = Instant::now() + every;
            while let Some(rest) = next_look.checked_duration_since(Instant::now()) {
                if event::poll(rest)? {
                    match event::read()? {
                        Event::Key(key) if is_end(key) => return Ok(()),
                        Event::Resize(..) => {
                            terminal.draw(|frame| rates.draw(frame))?;
                        }
                        _ => {}
                    }
                }
            }
            let now: Stats = client.get("/v1/stats")?;
            rates = Rates::between(&last, &now);
            last = now;
        }
    })();
    ratatui::try_restore()?;
    watched
}

fn is_end(key: event::KeyEvent) -> bool {
    let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
    key.kind == KeyEventKind::Press
        && (interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

/// What happened between two moments, in words.
#[derive(Debug, Default)]
struct Rates {
    title: String,
    ports: Vec<[String; 5]>,
    workers: Vec<[String; 5]>,
    stages: Vec<[String; 5]>,
    drops: Vec<[String; 4]>,
}

impl Rates {
    fn between(before: &Stats, now: &Stats) -> Self {
        let seconds = now.uptime_ms.saturating_sub(before.uptime_ms).max(1) as f64 / 1000.0;
        // a host that was started anew counts from 0
        let gain = |now: u64, before: u64| now.saturating_sub(before) as f64;
        let rate = |now: u64, before: u64| short(gain(now, before) / seconds);
        let bits = |now: u64, before: u64| short(gain(now, before) * 8.0 / seconds);

        let mut rates = Self {
            title: format!("millrace, up {}: {}", age(now.uptime_ms), chain(&now.filters)),
            ..Self::default()
        };
        for port in &now.ports {
            let earlier = before.ports.iter().find(|earlier| earlier.name == port.name);
            let (n, b) = (port.counters, earlier.map(|e| e.counters).unwrap_or_default());
            rates.ports.push([
                port.name.clone(),
                rate(n.rx_packets, b.rx_packets),
                bits(n.rx_bytes, b.rx_bytes),
                rate(n.tx_packets, b.tx_packets),
                bits(n.tx_bytes, b.tx_bytes),
            ]);
        }
        for worker in &now.workers {
            let earlier = before.workers.iter().find(|earlier| earlier.worker == worker.worker);
            let b = earlier.cloned().unwrap_or_default();
            let (hits, misses) =
                (worker.hits.saturating_sub(b.hits), worker.misses.saturating_sub(b.misses));
            rates.workers.push([
                worker.worker.to_string(),
                rate(worker.hits + worker.misses, b.hits + b.misses),
                percent(hits, hits + misses),
                short(worker.flows as f64),
                rate(worker.sleeps, b.sleeps),
            ]);
        }
        for stage in &now.filters {
            let earlier = before.filters.iter().find(|earlier| earlier.name == stage.name);
            let b = earlier.map(|e| e.counters.clone()).unwrap_or_default();
            let n = &stage.counters;
            rates.stages.push([
                stage.name.clone(),
                rate(n.asked + n.shown, b.asked + b.shown),
                rate(n.dropped + n.shown_dropped, b.dropped + b.shown_dropped),
                format!("{:.1} %", gain(n.busy_ns, b.busy_ns) / seconds / 1e7),
                n.faults.values().sum::<u64>().to_string(),
            ]);
        }
        rates.drops = drops(before, now, seconds);
        rates
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let len = |rows: usize| Constraint::Length(if rows == 0 { 0 } else { rows as u16 + 2 });
        let [title, ports, stages, workers, drops, _, help] = Layout::vertical([
            Constraint::Length(2),
            len(self.ports.len()),
            len(self.stages.len()),
            len(self.workers.len()),
            len(self.drops.len()),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(plain(&self.title)).bold(), title);
        let headings = ["PORT", "IN pkt/s", "bit/s", "OUT pkt/s", "bit/s"];
        table(frame, ports, headings, &self.ports);
        table(frame, stages, ["FILTER", "pkt/s", "dropped/s", "load", "faults"], &self.stages);
        table(frame, workers, ["WORKER", "pkt/s", "hits", "flows", "sleeps/s"], &self.workers);
        table(frame, drops, ["DROPPED pkt/s", "reason", "came in by", "decided by"], &self.drops);
        frame.render_widget(Line::from("q quits").dim(), help);
    }
}

/// What was dropped between two moments, the most first.
fn drops(before: &Stats, now: &Stats, seconds: f64) -> Vec<[String; 4]> {
    let dropped = |stats: &Stats| -> BTreeMap<_, u64> {
        let fates = stats.fates.iter().filter_map(|fate| {
            let reason = fate.reason.as_ref()?.to_string();
            Some(((reason, fate.port.clone(), fate.stage.clone()), fate.packets))
        });
        fates.collect()
    };
    let earlier = dropped(before);
    let gain = |(key, packets): (_, u64)| {
        let gain = packets.saturating_sub(earlier.get(&key).copied().unwrap_or(0));
        (gain > 0).then_some((gain, key))
    };
    let mut gains: Vec<_> = dropped(now).into_iter().filter_map(gain).collect();
    gains.sort_by_key(|(gain, _)| std::cmp::Reverse(*gain));
    let row = |(gain, (reason, port, stage)): (u64, (String, String, Option<String>))| {
        let stage = stage.unwrap_or_else(|| "the host".to_owned());
        [short(gain as f64 / seconds), reason, port, stage]
    };
    gains.into_iter().map(row).collect()
}

/// Draws a table whose columns share the width; the first one gets more of it.
fn table<const N: usize>(frame: &mut Frame<'_>, area: Rect, head: [&str; N], rows: &[[String; N]]) {
    let widths = (0..N).map(|column| Constraint::Fill(if column == 0 { 3 } else { 2 }));
    let rows = rows.iter().map(|row| Row::new(row.iter().map(|cell| plain(cell))));
    let head = Row::new(head.map(Text::from)).style(Style::new().dim());
    frame.render_widget(Table::new(rows, widths).header(head), area);
}

/// Text whose control characters do not steer the terminal.
fn plain(text: &str) -> Text<'static> {
    Text::from(
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>(),
    )
}

/// More would be more work for the host than for whoever looks.
const FASTEST: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::api::types::{FateStatus, WorkerStatus};

    fn stats(uptime_ms: u64, packets: u64) -> Stats {
        Stats {
            uptime_ms,
            workers: vec![WorkerStatus { hits: packets, misses: 0, ..WorkerStatus::default() }],
            fates: vec![FateStatus {
                port: "veth-a".into(),
                stage: Some("deny".into()),
                fate: "dropped".into(),
                reason: Some("denied".into()),
                packets,
            }],
            ..Stats::default()
        }
    }

    fn drawn(rates: &Rates, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| rates.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn rates_are_what_was_added_per_second() {
        let rates = Rates::between(&stats(1000, 10_000), &stats(3000, 14_000));
        assert_eq!(rates.workers, [["0", "2.0k", "100.0 %", "0", "0"].map(String::from)]);
        assert_eq!(rates.drops, [["2.0k", "denied", "veth-a", "deny"].map(String::from)]);
    }

    #[test]
    fn a_host_that_was_started_anew_has_no_negative_rates() {
        let rates = Rates::between(&stats(90_000, 10_000), &stats(1000, 50));
        assert_eq!(rates.workers[0][1], "0");
        assert!(rates.drops.is_empty());
    }

    #[test]
    fn it_fits_any_terminal() {
        let rates = Rates::between(&stats(0, 0), &stats(1000, 77));
        let screen = drawn(&rates, 80, 24);
        for text in ["WORKER", "denied", "veth-a", "q quits"] {
            assert!(screen.contains(text), "{screen}");
        }
        for (width, height) in [(20, 4), (1, 1), (200, 3)] {
            drawn(&rates, width, height);
        }
    }
}
