//! Values as people write them, in flags, files and JSON alike: words of a fixed list,
//! and numbers with a unit.
//!
//! - [`Word`]: `pod`, `drop`
//! - [`Span`]: `10ms`; [`ByteCount`]: `64MiB`
//!
//! Each prints what it reads. The functions here are for serde's `with`, for types that have
//! only `FromStr` and `Display`.

mod quantity;
mod word;

pub(crate) use millrace_control::word::Word;
pub(crate) use quantity::{ByteCount, Span};
pub(crate) use word::words;

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;

/// Writes a value as the text it prints.
pub(crate) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

/// Reads a value from its text. What is wrong with it is said where the text stands.
pub(crate) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    from.deserialize_str(Reader(PhantomData))
}

struct Reader<T>(PhantomData<T>);

impl<T: FromStr<Err: Display>> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    // the type knows better what a number lacks
    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}
