//! Amounts as Kubernetes writes them: `10M`, `1.5Gi`, `2e6`.
//!
//! Owns the arithmetic of quantities, for bit rates and for memory. What is less than a bit, or a
//! byte, is rounded up, as the API does.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct BitRate(pub u64);

/// Bytes.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(into = "String", try_from = "String")]
#[schemars(extend("maxLength" = 32, "x-kubernetes-validations" = [{
    "rule": "isQuantity(self)",
    "message": "it has to be a quantity, as 64Mi",
}]))]
pub struct ByteCount(pub u64);

impl FromStr for BitRate {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let fault = |fault| QuantityError { text: text.to_owned(), noun: "bit rate", fault };
        match amount(text).map_err(fault)? {
            Some(rate) if (LEAST..=MOST).contains(&rate) => Ok(Self(rate)),
            _ => Err(fault(OUT_OF_RANGE)),
        }
    }
}

impl FromStr for ByteCount {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let fault = |fault| QuantityError { text: text.to_owned(), noun: "number of bytes", fault };
        match amount(text).map_err(fault)? {
            Some(bytes) if bytes > 0 => Ok(Self(bytes)),
            _ => Err(fault(NO_BYTES)),
        }
    }
}

impl TryFrom<String> for BitRate {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl TryFrom<String> for ByteCount {
    type Error = QuantityError;

    fn try_from(text: String) -> Result<Self, QuantityError> {
        text.parse()
    }
}

impl From<ByteCount> for String {
    fn from(bytes: ByteCount) -> Self {
        bytes.to_string()
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

impl fmt::Display for ByteCount {
    /// As a quantity that reads back the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
        let exact = units.iter().find(|(factor, _)| self.0.is_multiple_of(*factor));
        match exact {
            Some((factor, suffix)) => write!(f, "{}{suffix}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

/// Why a text is no such amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {noun}: {fault}")]
pub struct QuantityError {
    text: String,
    noun: &'static str,
    fault: &'static str,
}

/// What a quantity amounts to, if that fits.
fn amount(text: &str) -> Result<Option<u64>, &'static str> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || part.contains('.') {
        return Err(NO_NUMBER);
    }
    if digits.len() > MOST_DIGITS {
        return Ok(None);
    }
    let mantissa: u128 = digits.parse().map_err(|_| NO_NUMBER)?;

    // value = mantissa × factor × 10^exponent
    let (factor, exponent) = scale(suffix).ok_or(NO_SUFFIX)?;
    let exponent = exponent - part.len() as i32;
    let Some(power) = 10u128.checked_pow(exponent.unsigned_abs()) else { return Ok(None) };
    let amount = mantissa.checked_mul(factor).and_then(|amount| match exponent {
        0.. => amount.checked_mul(power),
        _ => Some(amount.div_ceil(power)),
    });
    Ok(amount.and_then(|amount| u64::try_from(amount).ok()))
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
const NO_BYTES: &str = "it must be more than nothing, and fit in 64 bits";
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
            assert_eq!(error, QuantityError { text: text.into(), noun: "bit rate", fault });
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

    #[test]
    fn memory_is_counted_in_bytes() {
        for (text, bytes, printed) in
            [("64Mi", 64 << 20, "64Mi"), ("1k", 1000, "1000"), ("1", 1, "1")]
        {
            let read: ByteCount = text.parse().unwrap();
            assert_eq!((read.0, &*read.to_string()), (bytes, printed));
        }
        let error = "0".parse::<ByteCount>().unwrap_err().to_string();
        assert_eq!(error, format!("`0` is no number of bytes: {NO_BYTES}"));
    }
}
