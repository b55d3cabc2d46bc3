//! Amounts as Kubernetes writes them: `10M`, `1.5Gi`, `2e6`.
//!
//! Owns the arithmetic of quantities, for bit rates. What is less than a bit is rounded up, as
//! the API does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BitRate(pub u64);

impl FromStr for BitRate {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let fault = |fault| QuantityError { text: text.to_owned(), fault };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        let digits = format!("{whole}{part}");
        if digits.is_empty() || part.contains('.') {
            return Err(fault(NO_NUMBER));
        }
        if digits.len() > MOST_DIGITS {
            return Err(fault(OUT_OF_RANGE));
        }
        let mantissa: u128 = digits.parse().map_err(|_| fault(NO_NUMBER))?;

        // value = mantissa × factor × 10^exponent
        let (factor, exponent) = scale(suffix).ok_or_else(|| fault(NO_SUFFIX))?;
        let exponent = exponent - part.len() as i32;
        let power = 10u128.checked_pow(exponent.unsigned_abs());
        let power = power.ok_or_else(|| fault(OUT_OF_RANGE))?;
        let amount = mantissa.checked_mul(factor).and_then(|amount| match exponent {
            0.. => amount.checked_mul(power),
            _ => Some(amount.div_ceil(power)),
        });
        match amount.and_then(|amount| u64::try_from(amount).ok()) {
            Some(rate) if (LEAST..=MOST).contains(&rate) => Ok(Self(rate)),
            _ => Err(fault(OUT_OF_RANGE)),
        }
    }
}

impl TryFrom<String> for BitRate {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl From<BitRate> for String {
    fn from(rate: BitRate) -> Self {
        rate.to_string()
    }
}

impl fmt::Display for BitRate {
    /// As a quantity that reads back the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
        let exact = units.iter().find(|(factor, _)| self.0.is_multiple_of(*factor));
        match exact {
            Some((factor, suffix)) => write!(f, "{}{suffix}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Why a text is no bit rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no bit rate: {fault}")]
pub struct QuantityError {
    text: String,
    fault: &'static str,
}

/// A suffix's factor, and power of ten.
fn scale(suffix: &str) -> Option<(u128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse::<i8>().ok()?.into()),
    })
}

/// What the reference plugin allows: 1k to 1P.
const LEAST: u64 = 1000;
const MOST: u64 = 1_000_000_000_000_000;
/// So that a mantissa times any suffix fits, or is seen not to.
const MOST_DIGITS: usize = 20;
const NO_NUMBER: &str = "begin with a number, as in `10M`";
const NO_SUFFIX: &str = "end with nothing, k, M, G, T, P, Ki, Mi, Gi, Ti, Pi or an exponent";
const OUT_OF_RANGE: &str = "it must be 1k at least and 1P at most";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn suffixes_and_exponents_scale_a_number() {
        for (text, bits) in [
            ("1000", 1000),
            ("10k", 10_000),
            ("10M", 10_000_000),
            ("1G", 1_000_000_000),
            ("1Ki", 1024),
            ("1.5Mi", 1_572_864),
            ("2e6", 2_000_000),
            ("2.5E3", 2500),
            ("1000500m", 1001),
            (".5M", 500_000),
            ("1.M", 1_000_000),
            ("1P", 1_000_000_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(BitRate(bits)), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_or_has_no_known_suffix_is_refused() {
        for (text, fault) in [
            ("", NO_NUMBER),
            ("M", NO_NUMBER),
            (".", NO_NUMBER),
            ("-5M", NO_NUMBER),
            ("1.2.3M", NO_NUMBER),
            ("10 M", NO_SUFFIX),
            ("10m/s", NO_SUFFIX),
            ("10Kb", NO_SUFFIX),
            ("1e", NO_SUFFIX),
            ("1e999", NO_SUFFIX),
        ] {
            let error = text.parse::<BitRate>().unwrap_err();
            assert_eq!(error, QuantityError { text: text.into(), fault });
        }
    }

    #[test]
    fn rates_too_small_or_too_large_to_mean_anything_are_refused() {
        for text in ["0", "999", "1m", "2P", "1E", "99999999999999999999Ei", "1e127", "1e-127"] {
            let error = text.parse::<BitRate>().unwrap_err();
            assert_eq!(error.fault, OUT_OF_RANGE, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_rate_reads_back_as_it_was_written(bits in LEAST..=MOST) {
            prop_assert_eq!(BitRate(bits).to_string().parse(), Ok(BitRate(bits)));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC*") {
            let _ = text.parse::<BitRate>();
        }
    }
}
