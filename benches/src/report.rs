//! What was found, for people: a summary for the terminal, and a report in Markdown with drawings
//! beside it. Made of [`Results`] alone.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::drawing;
use crate::outcome::{Finding, Outcome, Results, show};
use crate::promise::Promise;
use crate::registry;
use crate::statistics::Estimate;

/// Writes `results.json`, `report.md` and the drawings into a folder.
///
/// # Errors
/// If a file cannot be written.
pub fn write(results: &Results, folder: &Path) -> Result<()> {
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    };
    put("results.json", &(serde_json::to_string_pretty(results)? + "\n"))?;
    put("report.md", &markdown(results))?;
    for chart in results.benches.iter().flat_map(|outcome| &outcome.charts) {
        put(&drawing::file_name(chart), &drawing::svg(chart)?)?;
    }
    Ok(())
}

/// What a bench came to, in a few lines.
pub fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for held in outcome.promises() {
        let Some((verdict, finding)) = outcome.verdict(&held.promise) else { continue };
        let bound = bound(&held.promise).unwrap_or_default();
        line(&mut text, format_args!("{verdict:<13}{} {bound}", held.promise));
        line(&mut text, format_args!("{:<13}  {}: {}", "", finding.what, finding.value()));
    }
    if outcome.promises().is_empty() {
        for finding in &outcome.findings {
            line(&mut text, format_args!("{:<13}{}: {}", "", finding.what, finding.value()));
        }
    }
    if let Some(failure) = &outcome.failure {
        line(&mut text, format_args!("{:<13}{failure}", "FAILED"));
    }
    text
}

/// The report.
pub fn markdown(results: &Results) -> String {
    let mut text = String::from("# What was measured\n\n");
    let quick = if results.quick { ", as a first impression (`--quick`)" } else { "" };
    line(
        &mut text,
        format_args!(
            "By `millrace-bench`{quick}. A verdict is about an interval at 95 %: PASS if all of it keeps the promise, FAIL if none of it does. Samples are in `results.json`.\n"
        ),
    );
    table(&mut text, &["", ""], results.environment.rows().into_iter().map(|(k, v)| vec![k, v]));

    if results.environment.was_busy() {
        line(&mut text, format_args!("\n**{BUSY}**"));
    }

    text.push_str("\n## Promises\n\n");
    let rows = results.benches.iter().flat_map(|outcome| {
        outcome.promises().into_iter().filter_map(|held| {
            let (verdict, finding) = outcome.verdict(&held.promise)?;
            Some(vec![
                verdict.to_string(),
                held.promise.clone(),
                bound(&held.promise).unwrap_or_default(),
                format!("{}: {}", finding.what, finding.value()),
            ])
        })
    });
    table(&mut text, &["verdict", "promise", "value", "worst finding"], rows);

    for outcome in &results.benches {
        section(&mut text, outcome);
    }
    text
}

fn section(text: &mut String, outcome: &Outcome) {
    line(
        text,
        format_args!("\n## {}\n\n{} ({:.0} s)", outcome.bench, outcome.what, outcome.seconds),
    );
    if let Some(failure) = &outcome.failure {
        line(text, format_args!("\n**It failed:** {failure}"));
    }
    for note in &outcome.notes {
        line(text, format_args!("\n{note}"));
    }
    for chart in &outcome.charts {
        line(text, format_args!("\n![{}]({})", chart.title, drawing::file_name(chart)));
    }
    if !outcome.findings.is_empty() {
        text.push('\n');
        let row = |finding: &Finding| {
            let verdict = finding.held_to.as_ref().map(|held| held.verdict.to_string());
            vec![finding.what.clone(), finding.value(), verdict.unwrap_or_default()]
        };
        table(text, &["finding", "median (95 %)", "verdict"], outcome.findings.iter().map(row));
    }
    if !outcome.series.is_empty() {
        text.push('\n');
        let rows = outcome.series.iter().map(|series| {
            let estimate = Estimate::of(&series.samples);
            let count = series.samples.len().to_string();
            vec![series.what.clone(), series.peer.clone(), show(series.unit, &estimate), count]
        });
        table(text, &["measured", "on", "median (95 %)", "samples"], rows);
    }
}

fn table(text: &mut String, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
    line(text, format_args!("| {} |", head.join(" | ")));
    line(text, format_args!("|{}", " --- |".repeat(head.len())));
    for row in rows {
        let cells: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        line(text, format_args!("| {} |", cells.join(" | ")));
    }
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes every line");
}

/// What a reader has to know of a run that was not alone.
pub const BUSY: &str = "The machine was in use before this run began: what packets share with \
                        somebody else's work is not comparable.";

/// The bound of a promise as it is written today.
fn bound(promise: &str) -> Option<String> {
    let mut promises = registry::BENCHES.iter().flat_map(|bench| bench.promises);
    promises.find(|known| known.what == promise).map(Promise::value)
}
