//! Words of a fixed list, whose types live in crates that know nothing of flags, JSON or YAML.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use millrace_abi::{Capability, PortKind};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// A `T`, written as its word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<T>(pub T);

/// A type whose values have words.
pub trait Worded: Copy + Send + Sync + 'static {
    /// What the words are of, for messages.
    const NOUN: &'static str;
    /// Every value.
    const ALL: &'static [Self];

    /// The word of a value.
    fn word(self) -> &'static str;
}

impl Worded for PortKind {
    const NOUN: &'static str = "kind of port";
    const ALL: &'static [Self] = &PortKind::ALL;

    fn word(self) -> &'static str {
        self.label()
    }
}

impl Worded for Capability {
    const NOUN: &'static str = "capability";
    const ALL: &'static [Self] = &Capability::ALL;

    fn word(self) -> &'static str {
        self.label()
    }
}

impl<T: Worded> FromStr for Word<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = T::ALL.iter().find(|value| value.word() == text);
        found.map(|value| Self(*value)).ok_or_else(|| {
            let words: Vec<_> = T::ALL.iter().map(|value| format!("`{}`", value.word())).collect();
            format!("`{text}` is no {}; there are {}", T::NOUN, words.join(", "))
        })
    }
}

impl<T: Worded> Serialize for Word<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.word())
    }
}

impl<'de, T: Worded> Deserialize<'de> for Word<T> {
    /// What is wrong with it is said where the text stands.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Reader(PhantomData))
    }
}

impl<T: Worded> JsonSchema for Word<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NOUN.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<_> = T::ALL.iter().map(|value| value.word()).collect();
        json_schema!({ "type": "string", "enum": words })
    }
}

struct Reader<T>(PhantomData<T>);

impl<T: Worded> Visitor<'_> for Reader<T> {
    type Value = Word<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a {}", T::NOUN)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Word<T>, E> {
        text.parse().map_err(E::custom)
    }
}

impl<T: Worded> fmt::Display for Word<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back_as_what_it_stands_for() {
        for kind in PortKind::ALL {
            assert_eq!(kind.label().parse(), Ok(Word(kind)));
        }
        for capability in Capability::ALL {
            assert_eq!(Word(capability).to_string().parse(), Ok(Word(capability)));
        }
    }

    #[test]
    fn an_unknown_word_is_told_which_there_are() {
        let error = "wires".parse::<Word<PortKind>>().unwrap_err();
        assert_eq!(
            error,
            "`wires` is no kind of port; there are `wire`, `pod`, `host`, `uplink`, `remote`"
        );
    }
}
