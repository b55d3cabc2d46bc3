//! What commands print: tables for people, JSON for programs, and how numbers look.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table as Grid};
use serde::Serialize;

use crate::api::client::Client;
use crate::config::DEFAULT_SOCKET;

/// Which host is asked.
#[derive(Args, Clone, Debug)]
pub(crate) struct Host {
    /// The admin socket of the host.
    #[arg(long, value_name = "PATH", env = "MILLRACE_SOCKET", default_value = DEFAULT_SOCKET)]
    socket: PathBuf,
}

/// Which host is asked, and how the answer is printed.
#[derive(Args, Clone, Debug)]
pub(crate) struct Asking {
    #[command(flatten)]
    host: Host,
    /// Print tables for people, or JSON for programs.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
    output: Output,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

impl Host {
    /// Who asks it.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        Client::new(&self.socket)
    }
}

impl Asking {
    /// Who asks.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        self.host.client()
    }

    /// How answers are printed.
    pub(crate) fn output(&self) -> Output {
        self.output
    }

    /// Prints an answer: as JSON, or as the text that `table` makes of it.
    pub(crate) fn print<T: Serialize>(
        &self,
        answer: &T,
        table: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let text = match self.output {
            Output::Table => table(answer),
            Output::Json => serde_json::to_string_pretty(answer)?,
        };
        print(&text)
    }
}

/// Prints a text, and one newline. A reader that has gone, such as `head`, is no error: there is nobody
/// to say more to.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match write(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// Prints the last text of a command whose exit code says something, also if the reader has gone.
pub(crate) fn print_last(text: &str) -> anyhow::Result<()> {
    match write(text) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn write(text: &str) -> io::Result<()> {
    // names and versions come from elsewhere, and must not steer the terminal
    let plain: String = text.trim_end().chars().map(harmless).collect();
    let mut out = io::stdout().lock();
    writeln!(out, "{plain}").and_then(|()| out.flush())
}

/// Rows under headings.
pub(crate) struct Table {
    grid: Grid,
}

/// A column's heading.
#[derive(Clone, Debug)]
pub(crate) enum Heading {
    /// Of texts.
    Text(String),
    /// Of numbers, which go to the right.
    Number(String),
}

impl Heading {
    /// Of texts.
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    /// Of numbers.
    pub(crate) fn number(text: &str) -> Self {
        Self::Number(text.to_owned())
    }
}

impl Table {
    /// A table without rows.
    pub(crate) fn new(headings: impl IntoIterator<Item = Heading>) -> Self {
        let headings: Vec<_> = headings.into_iter().collect();
        let mut grid = Grid::new();
        grid.load_style(NOTHING);
        grid.set_header(headings.iter().map(|heading| match heading {
            Heading::Text(text) | Heading::Number(text) => text.to_uppercase(),
        }));
        for (column, heading) in grid.column_iter_mut().zip(&headings) {
            column.set_padding((0, 2));
            if let Heading::Number(_) = heading {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        Self { grid }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.grid.add_row(cells);
    }

    /// The table as text.
    pub(crate) fn text(&self) -> String {
        self.grid.trim_fmt()
    }
}

fn harmless(c: char) -> char {
    if c.is_control() && c != '\n' { '\u{fffd}' } else { c }
}

/// Names in a sentence.
pub(crate) fn quoted_names<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// A number with its thousands apart.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A large number in four characters or so: `950`, `1.2k`, `35M`.
pub(crate) fn short(number: f64) -> String {
    let (mut number, mut unit) = (number, "");
    for next in ["k", "M", "G", "T"] {
        if number < 999.5 {
            break;
        }
        (number, unit) = (number / 1000.0, next);
    }
    let decimals = usize::from(!unit.is_empty() && number < 9.95);
    format!("{number:.decimals$}{unit}")
}

/// A length of time in its largest unit, as people say it.
pub(crate) fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A share of a whole in percent; nothing of nothing is a dash.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    match whole {
        0 => "-".to_owned(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_made_readable() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (12_345_678, "12,345,678")]
        {
            assert_eq!(count(number), text);
        }
        for (number, text) in
            [(0.0, "0"), (950.4, "950"), (999.6, "1.0k"), (1234.0, "1.2k"), (35.2e6, "35M")]
        {
            assert_eq!(short(number), text);
        }
        for (ms, text) in
            [(7, "7 ms"), (59_999, "59 s"), (61_000, "1 min"), (3_660_000, "1 h 1 min")]
        {
            assert_eq!(age(ms), text);
        }
        assert_eq!((percent(1, 8), percent(0, 0)), ("12.5 %".into(), "-".into()));
    }

    #[test]
    fn columns_are_aligned_under_their_headings() {
        let headings = [Heading::text("port"), Heading::number("packets"), Heading::text("state")];
        let mut table = Table::new(headings);
        table.row(["a".into(), count(5), "up".into()]);
        table.row(["veth-b".into(), count(12_345), "down".into()]);
        assert_eq!(
            table.text(),
            "PORT    PACKETS  STATE\na             5  up\nveth-b   12,345  down"
        );
    }
}
