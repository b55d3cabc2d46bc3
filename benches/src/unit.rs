//! Units of what is measured: how they are written, and which way is better.

use serde::{Deserialize, Serialize};

/// A unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// One thing divided by another; more is better.
    Ratio,
    /// Nanoseconds.
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Instructions.
    Instructions,
    /// Packets per second; more is better.
    PacketsPerSecond,
    /// Bits per second; more is better.
    BitsPerSecond,
    /// Things per second, such as connections; more is better.
    PerSecond,
    /// Hundredths of a core.
    PercentOfCore,
    /// Bytes.
    Bytes,
    /// Things, such as lost packets.
    Count,
}

impl Unit {
    /// Whether more of it is better.
    pub fn more_is_better(self) -> bool {
        matches!(self, Self::Ratio | Self::PacketsPerSecond | Self::BitsPerSecond | Self::PerSecond)
    }

    /// A value with its unit, in few digits.
    pub fn show(self, value: f64) -> String {
        let scaled = |steps: &[(f64, &str)]| {
            let step = steps.iter().find(|(size, _)| value.abs() >= *size);
            let (size, name) = step.or(steps.last()).copied().unwrap_or((1.0, ""));
            format!("{} {name}", few_digits(value / size))
        };
        match self {
            Self::Ratio => format!("{value:.2}"),
            Self::Count => format!("{value:.0}"),
            Self::Nanoseconds => format!("{} ns", few_digits(value)),
            Self::Microseconds => format!("{} µs", few_digits(value)),
            Self::Milliseconds => format!("{} ms", few_digits(value)),
            Self::Instructions => format!("{} instructions", few_digits(value)),
            Self::PercentOfCore => format!("{} %", few_digits(value)),
            Self::PacketsPerSecond => scaled(&[(1e6, "Mpps"), (1e3, "kpps"), (1.0, "pps")]),
            Self::BitsPerSecond => scaled(&[(1e9, "Gbit/s"), (1e6, "Mbit/s"), (1.0, "bit/s")]),
            Self::PerSecond => scaled(&[(1e6, "M/s"), (1e3, "k/s"), (1.0, "/s")]),
            Self::Bytes => scaled(&[(1e6, "MB"), (1e3, "kB"), (1.0, "B")]),
        }
    }
}

/// Three digits that count, or all before the point.
fn few_digits(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e9 {
        return format!("{value:.0}");
    }
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_short_and_have_their_unit() {
        for (unit, value, text) in [
            (Unit::Ratio, 0.85321, "0.85"),
            (Unit::Nanoseconds, 12.0, "12 ns"),
            (Unit::Nanoseconds, 7.386, "7.39 ns"),
            (Unit::Nanoseconds, 1234.4, "1234 ns"),
            (Unit::PacketsPerSecond, 412_345.0, "412 kpps"),
            (Unit::PacketsPerSecond, 1_200_000.0, "1.20 Mpps"),
            (Unit::PacketsPerSecond, 0.0, "0 pps"),
            (Unit::BitsPerSecond, 3.6e9, "3.60 Gbit/s"),
            (Unit::PerSecond, 13_400.0, "13.4 k/s"),
            (Unit::Bytes, 33554432.0, "33.6 MB"),
            (Unit::Count, 3.0, "3"),
        ] {
            assert_eq!(unit.show(value), text);
        }
    }
}
