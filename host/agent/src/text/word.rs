//! Words of a fixed list, on the command line.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use millrace_control::word::{Word, Worded};

/// Reads words from the command line, and completes them.
pub(crate) fn words<T: Worded>() -> impl TypedValueParser<Value = Word<T>> {
    let known = PossibleValuesParser::new(T::ALL.iter().map(|value| value.word()));
    known.try_map(|word| word.parse::<Word<T>>())
}
