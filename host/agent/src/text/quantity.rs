//! Numbers with a unit: a bare number is refused, so that nobody has to know which unit is
//! meant.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, such as `50us`.
pub(crate) type Span = Quantity<Time>;
/// A number of bytes, such as `64MiB`.
pub(crate) type ByteCount = Quantity<Bytes>;

/// A number in the smallest unit of `M`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantity<M> {
    amount: u64,
    measure: PhantomData<M>,
}

/// What is measured, and in which units.
pub(crate) trait Measure: Copy {
    /// A right example, for messages.
    const EXAMPLE: &'static str;
    /// The units, from the smallest, which is 1, to the largest.
    const UNITS: &'static [(&'static str, u64)];
}

/// Time, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time;

/// Memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bytes;

impl Measure for Time {
    const EXAMPLE: &'static str = "50us";
    const UNITS: &'static [(&'static str, u64)] = &[
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("min", 60_000_000_000),
    ];
}

impl Measure for Bytes {
    const EXAMPLE: &'static str = "64MiB";
    const UNITS: &'static [(&'static str, u64)] =
        &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
}

impl<M> Quantity<M> {
    /// `amount` of the smallest unit.
    pub(crate) const fn new(amount: u64) -> Self {
        Self { amount, measure: PhantomData }
    }

    /// How many of the smallest unit.
    pub(crate) const fn amount(self) -> u64
    where
        M: Copy,
    {
        self.amount
    }
}

impl Span {
    /// As the standard library has it.
    pub(crate) const fn duration(self) -> Duration {
        Duration::from_nanos(self.amount)
    }
}

impl<M: Measure> FromStr for Quantity<M> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let names: Vec<_> = M::UNITS.iter().map(|(name, _)| *name).collect();
        let unit = M::UNITS.iter().find(|(name, _)| *name == unit.trim_start());
        let (Ok(number), Some((_, size))) = (number.parse::<u64>(), unit) else {
            let names = names.join(", ");
            return Err(format!(
                "`{text}` is not a whole number with one of the units {names}, as in `{}`",
                M::EXAMPLE
            ));
        };
        let amount = number.checked_mul(*size);
        amount.map(Self::new).ok_or_else(|| format!("`{text}` is too much"))
    }
}

impl<M: Measure> fmt::Display for Quantity<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = |(_, size): &&(&str, u64)| self.amount.is_multiple_of(*size);
        let largest = M::UNITS.iter().rev().find(|unit| self.amount > 0 && whole(unit));
        let (unit, size) = largest.unwrap_or(&M::UNITS[0]);
        write!(f, "{}{unit}", self.amount / size)
    }
}

impl<M: Measure> fmt::Debug for Quantity<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<M: Measure> Serialize for Quantity<M> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        super::serialize(self, to)
    }
}

impl<'de, M: Measure> Deserialize<'de> for Quantity<M> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        super::deserialize(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_printed_in_the_largest_unit_that_fits() {
        for (text, nanoseconds, printed) in [
            ("0ns", 0, "0ns"),
            ("50us", 50_000, "50us"),
            ("1500 ms", 1_500_000_000, "1500ms"),
            ("120s", 120_000_000_000, "2min"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!((span.amount(), &*span.to_string()), (nanoseconds, printed));
        }
        let bytes: ByteCount = "1024KiB".parse().unwrap();
        assert_eq!((bytes.amount(), &*bytes.to_string()), (1 << 20, "1MiB"));
    }

    #[test]
    fn a_number_without_a_unit_is_refused_with_an_example() {
        for text in ["", "10", "ms", "-1ms", "1.5s", "10 parsecs", "10MB"] {
            let error = text.parse::<Span>().unwrap_err();
            assert!(error.contains("as in `50us`"), "{error}");
        }
        assert!("99999999999GiB".parse::<ByteCount>().unwrap_err().contains("too much"));
    }
}
