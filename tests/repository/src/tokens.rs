//! Rust source as a flat row of tokens: no comments, and nothing from inside a string.
//!
//! Macro bodies are tokens like any others, so that a rule sees into them.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use crate::TextFile;

/// A word, a mark, or one half of a pair of brackets.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// As in the source; empty for a literal.
    pub(crate) text: String,
    /// Counted from 1.
    pub(crate) line: usize,
}

/// The tokens of a Rust file.
///
/// # Panics
/// If the file is not made of Rust tokens.
pub(crate) fn tokens(file: &TextFile) -> Vec<Token> {
    let parsed = file.text.parse::<TokenStream>();
    let stream = parsed.unwrap_or_else(|error| panic!("{}: {error}", file.path.display()));
    let mut row = Vec::new();
    flatten(stream, &mut row);
    row
}

/// Whether `tokens` start with these texts.
pub(crate) fn starts_with(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(ours, text)| ours.text == *text)
}

fn flatten(stream: TokenStream, row: &mut Vec<Token>) {
    for tree in stream {
        let line = tree.span().start().line;
        let text = match tree {
            TokenTree::Ident(word) => word.to_string(),
            TokenTree::Punct(mark) => mark.to_string(),
            TokenTree::Literal(_) => String::new(),
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::None => ("", ""),
                };
                row.push(Token { text: open.to_owned(), line });
                flatten(group.stream(), row);
                let line = group.span_close().start().line;
                row.push(Token { text: close.to_owned(), line });
                continue;
            }
        };
        row.push(Token { text, line });
    }
}
