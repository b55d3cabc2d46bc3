//! The YAML documents of a file.
//!
//! Owns the way from a field back to its line: values do not remember where they came from, so
//! for a complaint the document is parsed once more, down to that field and no further.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_norway::Value;

use crate::manifest::FieldPath;
use crate::manifest::field::Step;
use crate::source::Place;

/// One document.
#[derive(Clone, Debug)]
pub(super) struct Document {
    file: PathBuf,
    /// How many lines of the file are before it.
    before: usize,
    text: String,
}

impl Document {
    /// The documents of a file, in order; `---` at the beginning of a line parts them.
    pub(super) fn all(file: &Path, text: &str) -> impl Iterator<Item = Self> {
        let mut documents = Vec::new();
        let mut current = Self { file: file.to_owned(), before: 0, text: String::new() };
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.split_inclusive('\n').enumerate() {
            if is_separator(line) {
                let next = Self { file: file.to_owned(), before: number, text: String::new() };
                documents.push(std::mem::replace(&mut current, next));
            }
            current.text.push_str(line);
        }
        documents.push(current);
        documents.into_iter()
    }

    /// What it says; null if that is nothing.
    ///
    /// # Errors
    /// What the parser says, and where.
    pub(super) fn parse(&self) -> Result<Value, (Place, String)> {
        let parse = |text: &str| serde_norway::from_str::<Value>(text);
        parse(&self.text).map_err(|error| {
            // with as many lines before it as in the file, the parser's message names the file's
            let shifted = parse(&format!("{}{}", "\n".repeat(self.before), self.text));
            let error = shifted.err().unwrap_or(error);
            let line = error.location().map_or(self.before + 1, |location| location.line());
            (Place { file: self.file.clone(), line }, error.to_string())
        })
    }

    /// Where a field is, or what is left of it: the document, if it is nowhere.
    pub(super) fn place(&self, field: &FieldPath) -> Place {
        let find = Find(field.steps());
        let found = find.deserialize(serde_norway::Deserializer::from_str(&self.text));
        // an error is what says where the parser was
        let line = found.err().and_then(|error| error.location()).map(|location| location.line());
        let line = line.unwrap_or_else(|| self.first_line());
        Place { file: self.file.clone(), line: self.before + line }
    }

    /// The first line that says something.
    fn first_line(&self) -> usize {
        let says =
            |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with(['#', '-']);
        self.text.lines().position(says).unwrap_or(0) + 1
    }
}

/// Whether a line begins a document. Text of a scalar never stands at a line's beginning.
fn is_separator(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Goes down to a field, and fails there: the error has the line.
struct Find<'p>(&'p [Step]);

impl<'de> DeserializeSeed<'de> for Find<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.0 {
            [] => deserializer.deserialize_any(Here),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Find<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what leads to the field")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(key) = map.next_key::<Value>()? {
            match self.0 {
                [Step::Key(wanted), rest @ ..] if key.as_str() == Some(wanted) => {
                    return map.next_value_seed(Find(rest));
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        let [Step::Index(wanted), rest @ ..] = self.0 else { return Ok(()) };
        for _ in 0..*wanted {
            if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        seq.next_element_seed(Find(rest)).map(|_| ())
    }
}

/// Takes nothing at all.
struct Here;

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Vec<Document> {
        Document::all(Path::new("f.yaml"), text).collect()
    }

    #[test]
    fn a_line_of_dashes_parts_documents_wherever_it_has_nothing_before_it() {
        let texts: Vec<_> = documents("a: 1\n---\nb: |\n  ---\n  x\n--- # c\nc: 3\n---")
            .into_iter()
            .map(|document| document.parse().unwrap())
            .collect();
        let parse = |text: &str| serde_norway::from_str::<Value>(text).unwrap();
        assert_eq!(
            texts,
            [parse("a: 1"), parse("{b: \"---\\nx\\n\"}"), parse("c: 3"), Value::Null]
        );
    }

    #[test]
    fn a_field_is_found_on_its_line_of_the_file() {
        let text =
            "---\n# of the first\na: 1\n---\n\nspec:\n  list:\n  - x: 1\n  - {y: 2,\n     z: 3}\n";
        let document = &documents(text)[2];
        let field = FieldPath::root().key("spec");
        let line = |field: &FieldPath| document.place(field).line;
        assert_eq!(line(&field.clone().key("list").index(0).key("x")), 8);
        assert_eq!(line(&field.clone().key("list").index(1)), 9);
        assert_eq!(line(&field.clone().key("list").index(1).key("z")), 10);
        // what is missing is where its document begins
        assert_eq!(line(&field.key("list").index(2)), 6);
        assert_eq!(line(&FieldPath::root().key("other")), 6);
        assert_eq!(line(&FieldPath::root()), 6);
    }

    #[test]
    fn an_error_of_the_parser_names_the_line_of_the_file() {
        let (place, reason) = documents("a: 1\n---\nb: 2\nc: [\n")[1].parse().unwrap_err();
        assert_eq!(place.line, 5);
        assert!(reason.contains("at line 5"), "{reason}");
        assert!(!reason.contains("at line 2"), "{reason}");
    }
}
