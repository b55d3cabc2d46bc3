//! A filter's configuration: JSON outside, typed inside, with a schema that is
//! known before the filter runs.
//!
//! ```
//! # use millrace_filter::prelude::*;
//! # use millrace_filter::record::Port;
//! #[derive(Config)]
//! struct Settings {
//!     /// Sources whose packets are dropped.
//!     deny: Vec<Prefix>,
//!     /// Packets per second that each of the others may send.
//!     #[config(default = 1000)]
//!     rate: u32,
//!     /// What happens to packets above the rate.
//!     #[config(default = Excess::Drop)]
//!     excess: Excess,
//!     /// Only packets from this port count; all, if it is absent.
//!     #[config(name = "onlyFrom")]
//!     only_from: Option<Port>,
//! }
//!
//! #[derive(Config)]
//! enum Excess {
//!     Drop,
//!     LogOnly, // "log-only" in JSON
//! }
//! ```
//!
//! Unknown keys are refused, missing ones too unless they are `Option`s or have a default, and
//! every complaint names its place: ``deny[2]: `10.0.0.0/33` is not a prefix``.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use serde_json::Value;

use crate::abi::limits::MAX_PORT;
use crate::filter::Error;
use crate::prefix::Prefix;
use crate::record::Port;
pub use crate::text::Text;
use crate::wire::MacAddr;

/// A type that a configuration can hold. Derive it for structs with named fields, and for enums
/// of words.
pub trait Config: Sized {
    /// JSON Schema of its JSON form.
    const SCHEMA: Schema;
    /// Whether the key may be absent.
    const OPTIONAL: bool = false;

    /// Reads a value that stands at `at`.
    ///
    /// # Errors
    /// What is wrong, and where.
    fn read(value: &Value, at: &Place<'_>) -> Result<Self, Error>;

    /// What it is where the key is absent.
    ///
    /// # Errors
    /// That it is missing, unless it is optional.
    fn absent(at: &Place<'_>) -> Result<Self, Error> {
        Err(at.wrong("is missing"))
    }
}

/// JSON Schema as constant text (JSON Schema 2020-12).
#[derive(Clone, Copy)]
pub struct Schema(Text);

/// The schema of an object, property by property.
pub struct ObjectSchema {
    properties: Text,
    required: Text,
}

/// Where in the configuration a value stands.
pub struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
}

enum Step<'p> {
    Root,
    Key(&'p str),
    Index(usize),
}

/// An object whose keys are known to be allowed.
pub struct Object<'v, 'p> {
    fields: &'v serde_json::Map<String, Value>,
    at: &'p Place<'p>,
}

/// Reads a whole configuration; no text at all is an empty object.
pub(crate) fn parse<C: Config>(json: &[u8]) -> Result<C, Error> {
    let value = match json.trim_ascii() {
        [] => Value::Object(serde_json::Map::new()),
        json => serde_json::from_slice(json)
            .map_err(|error| Error::new(format!("the configuration is not JSON: {error}")))?,
    };
    C::read(&value, &Place { parent: None, step: Step::Root })
}

impl Schema {
    /// The schema that is `text`.
    pub const fn new(text: &str) -> Self {
        Self(Text::EMPTY.with(text))
    }

    /// The schema of one of `words`.
    pub const fn words(words: &[&str]) -> Self {
        let mut text = Text::EMPTY.with("{\"enum\":[");
        let mut index = 0;
        while index < words.len() {
            if index > 0 {
                text = text.with(",");
            }
            text = text.with_json(words[index]);
            index += 1;
        }
        Self(text.with("]}"))
    }

    const fn integer(minimum: i128, maximum: i128) -> Self {
        let mut text = Text::EMPTY.with("{\"type\":\"integer\",\"minimum\":");
        if minimum < 0 {
            text = text.with("-");
        }
        text = text.with_number(minimum.unsigned_abs() as u64).with(",\"maximum\":");
        Self(text.with_number(maximum as u64).with("}"))
    }

    const fn around(before: &str, inner: &Self, after: &str) -> Self {
        Self(Text::EMPTY.with(before).with_text(&inner.0).with(after))
    }

    /// The schema as JSON.
    pub const fn text(&self) -> &Text {
        &self.0
    }
}

impl ObjectSchema {
    /// An object without properties.
    #[allow(clippy::new_without_default, reason = "`Default` is not const")]
    pub const fn new() -> Self {
        Self { properties: Text::EMPTY, required: Text::EMPTY }
    }

    /// Adds a property.
    #[must_use]
    pub const fn property(
        mut self,
        key: &str,
        help: &str,
        optional: bool,
        schema: &Schema,
    ) -> Self {
        let mut properties = self.properties;
        if !properties.is_empty() {
            properties = properties.with(",");
        }
        properties = properties.with_json(key).with(":{\"description\":").with_json(help);
        // the rest of the inner schema behind the description
        if schema.0.len() > 2 {
            properties = properties.with(",");
        }
        self.properties = properties.with_rest_of(&schema.0);
        if !optional {
            if !self.required.is_empty() {
                self.required = self.required.with(",");
            }
            self.required = self.required.with_json(key);
        }
        self
    }

    /// The schema of the object.
    pub const fn finish(self) -> Schema {
        Schema(
            Text::EMPTY
                .with("{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{")
                .with_text(&self.properties)
                .with("},\"required\":[")
                .with_text(&self.required)
                .with("]}"),
        )
    }
}

impl Place<'_> {
    /// The complaint that the value here `problem`.
    pub fn wrong(&self, problem: impl fmt::Display) -> Error {
        match self.parent {
            None => Error::new(format!("the configuration {problem}")),
            Some(_) => Error::new(format!("`{self}`: {problem}")),
        }
    }

    /// The value as an object with no other keys than `keys`.
    ///
    /// # Errors
    /// If it is something else, or has another key.
    pub fn object<'v, 'p>(
        &'p self,
        value: &'v Value,
        keys: &[&str],
    ) -> Result<Object<'v, 'p>, Error> {
        let fields = value.as_object().ok_or_else(|| self.wrong("is not an object"))?;
        match fields.keys().find(|key| !keys.contains(&key.as_str())) {
            None => Ok(Object { fields, at: self }),
            Some(unknown) if keys.is_empty() => {
                Err(self.wrong(format!("has the key `{unknown}`, and takes none")))
            }
            Some(unknown) => Err(self.wrong(format!(
                "has the unknown key `{unknown}`; there are `{}`",
                keys.join("`, `")
            ))),
        }
    }

    /// The value as one of `words`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn word<'w>(&self, value: &Value, words: &[&'w str]) -> Result<&'w str, Error> {
        let found = value.as_str().and_then(|text| words.iter().find(|&&word| word == text));
        found
            .copied()
            .ok_or_else(|| self.wrong(format!("{value} is not one of `{}`", words.join("`, `"))))
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(parent) = self.parent else { return Ok(()) };
        parent.fmt(f)?;
        match self.step {
            Step::Root => Ok(()),
            Step::Key(key) if parent.parent.is_none() => f.write_str(key),
            Step::Key(key) => write!(f, ".{key}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Object<'_, '_> {
    /// The field called `key`.
    ///
    /// # Errors
    /// If it is missing or wrong.
    pub fn field<C: Config>(&self, key: &str) -> Result<C, Error> {
        let at = Place { parent: Some(self.at), step: Step::Key(key) };
        match self.fields.get(key) {
            Some(value) => C::read(value, &at),
            None => C::absent(&at),
        }
    }

    /// The field called `key`, or `default` if it is absent.
    ///
    /// # Errors
    /// If it is wrong.
    pub fn field_or<C: Config>(&self, key: &str, default: impl FnOnce() -> C) -> Result<C, Error> {
        if self.fields.contains_key(key) { self.field(key) } else { Ok(default()) }
    }
}

impl Config for () {
    const SCHEMA: Schema = ObjectSchema::new().finish();

    fn read(value: &Value, at: &Place<'_>) -> Result<Self, Error> {
        at.object(value, &[]).map(|_| ())
    }
}

impl Config for bool {
    const SCHEMA: Schema = Schema::new("{\"type\":\"boolean\"}");

    fn read(value: &Value, at: &Place<'_>) -> Result<Self, Error> {
        value.as_bool().ok_or_else(|| at.wrong(format!("{value} is neither true nor false")))
    }
}

impl Config for String {
    const SCHEMA: Schema = Schema::new("{\"type\":\"string\"}");

    fn read(value: &Value, at: &Place<'_>) -> Result<Self, Error> {
        let text = value.as_str().ok_or_else(|| at.wrong(format!("{value} is not a string")))?;
        Ok(text.to_owned())
    }
}

impl<C: Config> Config for Option<C> {
    const SCHEMA: Schema = Schema::around("{\"anyOf\":[", &C::SCHEMA, ",{\"type\":\"null\"}]}");
    const OPTIONAL: bool = true;

    fn read(value: &Value, at: &Place<'_>) -> Result<Self, Error> {
        if value.is_null() { Ok(None) } else { C::read(value, at).map(Some) }
    }

    fn absent(_: &Place<'_>) -> Result<Self, Error> {
        Ok(None)
    }
}

impl<C: Config> Config for Vec<C> {
    const SCHEMA: Schema = Schema::around("{\"type\":\"array\",\"items\":", &C::SCHEMA, "}");

    fn read(value: &Value, at: &Place<'_>) -> Result<Self, Error> {
        let items = value.as_array().ok_or_else(|| at.wrong("is not an array"))?;
        let read =
            |(index, item)| C::read(item, &Place { parent: Some(at), step: Step::Index(index) });
        items.iter().enumerate().map(read).collect()
    }
}

impl<C: Config> Config for BTreeMap<String, C> {
    const SCHEMA: Schema =
        Schema::around("{\"type\":\"object\",\"additionalProperties\":", &C::SCHEMA, "}");

    fn read(value: &Value, at: &Place<'_>) -> Result<Self, Error> {
        let fields = value.as_object().ok_or_else(|| at.wrong("is not an object"))?;
        let read = |(key, value): (&String, _)| {
            let at = Place { parent: Some(at), step: Step::Key(key) };
            Ok((key.clone(), C::read(value, &at)?))
        };
        fields.iter().map(read).collect()
    }
}

macro_rules! integers {
    ($($int:ty),*) => {$(
        impl Config for $int {
            const SCHEMA: Schema = Schema::integer(<$int>::MIN as i128, <$int>::MAX as i128);

            fn read(value: &Value, at: &Place<'_>) -> Result<Self, Error> {
                let wide = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
                wide.and_then(|wide| Self::try_from(wide).ok()).ok_or_else(|| {
                    let (min, max) = (Self::MIN, Self::MAX);
                    at.wrong(format!("{value} is not a whole number from {min} to {max}"))
                })
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, i8, i16, i32, i64);

/// A port by its number. Its schema has the format `port`, by which the host knows where it may
/// put the number in place of a port's name.
impl Config for Port {
    const SCHEMA: Schema =
        Schema::new("{\"type\":\"integer\",\"format\":\"port\",\"minimum\":1,\"maximum\":4094}");

    fn read(value: &Value, at: &Place<'_>) -> Result<Self, Error> {
        let number = value.as_u64().and_then(|number| u16::try_from(number).ok());
        let number = number.filter(|number| (1..=MAX_PORT).contains(number));
        number.map(Self).ok_or_else(|| at.wrong(format!("{value} is not the number of a port")))
    }
}

macro_rules! parsed {
    ($($ty:ty, $format:literal, $what:literal;)*) => {$(
        impl Config for $ty {
            const SCHEMA: Schema =
                Schema::new(concat!("{\"type\":\"string\",\"format\":\"", $format, "\"}"));

            fn read(value: &Value, at: &Place<'_>) -> Result<Self, Error> {
                let text = value
                    .as_str()
                    .ok_or_else(|| at.wrong(format!("{value} is not a string with {}", $what)))?;
                text.parse().map_err(|_| at.wrong(format!("`{text}` is not {}", $what)))
            }
        }
    )*};
}
parsed! {
    IpAddr, "ip", "an IP address";
    Ipv4Addr, "ipv4", "an IPv4 address";
    Ipv6Addr, "ipv6", "an IPv6 address";
    Prefix, "cidr", "a prefix such as 10.0.0.0/8 or 2001:db8::/32";
    MacAddr, "mac", "a MAC address such as 02:00:00:00:00:01";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config as DeriveConfig;

    #[derive(DeriveConfig, Debug, PartialEq)]
    struct Settings {
        /// Sources whose packets are dropped.
        deny: Vec<Prefix>,
        /// How many.
        #[config(default = 7)]
        rate: u8,
        /// What "then".
        #[config(default = Then::GoOn)]
        then: Then,
        /// A part.
        part: Option<Part>,
        /// Where to.
        #[config(name = "wayOut")]
        way_out: Option<Port>,
    }

    #[derive(DeriveConfig, Debug, PartialEq)]
    struct Part {
        /// Its gate.
        gate: IpAddr,
    }

    #[derive(DeriveConfig, Debug, PartialEq)]
    enum Then {
        Stop,
        GoOn,
    }

    #[test]
    fn a_configuration_is_read_with_its_defaults() {
        let settings: Settings = parse(br#"{"deny":["10.0.0.0/8"]}"#).expect("it is right");
        let deny = vec!["10.0.0.0/8".parse().expect("a prefix")];
        let expected = Settings { deny, rate: 7, then: Then::GoOn, part: None, way_out: None };
        assert_eq!(settings, expected);
        let settings: Settings =
            parse(br#"{"deny":[],"rate":1,"then":"stop","part":{"gate":"::1"}}"#).expect("right");
        assert_eq!(settings.then, Then::Stop);
        assert_eq!(settings.part, Some(Part { gate: Ipv6Addr::LOCALHOST.into() }));
        let settings: Settings = parse(br#"{"deny":[],"wayOut":4094}"#).expect("it is right");
        assert_eq!(settings.way_out, Some(Port(4094)));
    }

    #[test]
    fn every_complaint_names_its_place() {
        for (json, complaint) in [
            ("[]", "the configuration is not an object"),
            ("{", "the configuration is not JSON"),
            ("", "`deny`: is missing"),
            (r#"{"deny":3}"#, "`deny`: is not an array"),
            (r#"{"deny":["1.2.3.4/8","x/1"]}"#, "`deny[1]`: `x/1` is not a prefix"),
            (r#"{"deny":[],"rate":256}"#, "`rate`: 256 is not a whole number from 0 to 255"),
            (r#"{"deny":[],"rate":-1}"#, "`rate`: -1 is not"),
            (r#"{"deny":[],"then":"maybe"}"#, r#"`then`: "maybe" is not one of `stop`, `go-on`"#),
            (r#"{"deny":[],"part":{}}"#, "`part.gate`: is missing"),
            (r#"{"deny":[],"part":{"gate":"gate"}}"#, "`part.gate`: `gate` is not an IP address"),
            (r#"{"deny":[],"wayOut":0}"#, "`wayOut`: 0 is not the number of a port"),
            (r#"{"deny":[],"wayOut":4095}"#, "`wayOut`: 4095 is not the number of a port"),
            (r#"{"deny":[],"wayOut":"eth0"}"#, r#"`wayOut`: "eth0" is not the number of a port"#),
            (r#"{"deny":[],"way_out":1}"#, "has the unknown key `way_out`"),
            (r#"{"deny":[],"more":1}"#, "has the unknown key `more`; there are `deny`, `rate`"),
        ] {
            let error = parse::<Settings>(json.as_bytes()).expect_err(json).to_string();
            assert!(error.contains(complaint), "{json}: {error}");
        }
    }

    #[test]
    fn the_schema_is_json_and_says_what_the_reader_does() {
        let schema: Value =
            serde_json::from_slice(Settings::SCHEMA.text().as_bytes()).expect("it is JSON");
        assert_eq!(schema["required"], serde_json::json!(["deny"]));
        assert_eq!(schema["additionalProperties"], false);
        let properties = &schema["properties"];
        assert_eq!(properties["deny"]["description"], "Sources whose packets are dropped.");
        assert_eq!(properties["deny"]["items"]["format"], "cidr");
        assert_eq!(properties["rate"]["maximum"], 255);
        assert_eq!(properties["then"]["enum"], serde_json::json!(["stop", "go-on"]));
        assert_eq!(properties["then"]["description"], "What \"then\".");
        assert_eq!(properties["part"]["anyOf"][0]["required"], serde_json::json!(["gate"]));
        let port = &properties["wayOut"]["anyOf"][0];
        assert_eq!((&port["format"], &port["maximum"]), (&"port".into(), &MAX_PORT.into()));
        let signed: Value = serde_json::from_slice(i8::SCHEMA.text().as_bytes()).expect("JSON");
        assert_eq!(signed["minimum"], -128);
    }
}
