//! No `unwrap()` but in tests: elsewhere, `expect` has a sentence that can be checked.
//!
//! The workspace's lint knows this rule too, but can be allowed in passing, and does not look into
//! the bodies of macros.

use crate::tokens::{Token, starts_with, tokens};
use crate::{Complaint, Package, TextFile};

/// Every `unwrap()` outside of tests.
pub fn complaints(packages: &[Package], files: &[TextFile]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !file.is_test_code(packages)) {
        let tokens = tokens(file);
        let mut rest = &tokens[..];
        while let [token, after_token @ ..] = rest {
            if starts_with(rest, UNWRAP) {
                let message = "`unwrap()` is for tests: return an error, or `expect` with a reason";
                complaints.push(Complaint::at(&file.path, token.line, message));
            }
            rest = if starts_with(rest, TEST_ONLY) { after_item(rest) } else { after_token };
        }
    }
    complaints
}

/// What follows the item that `tokens` start with: its body, or a semicolon, ends it.
fn after_item(tokens: &[Token]) -> &[Token] {
    let mut depth = 0;
    let ends = |token: &Token| {
        match token.text.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        depth == 0 && matches!(token.text.as_str(), "}" | ";")
    };
    let end = tokens.iter().position(ends).map_or(tokens.len(), |last| last + 1);
    &tokens[end..]
}

const UNWRAP: &[&str] = &[".", "unwrap", "(", ")"];
const TEST_ONLY: &[&str] = &["#", "[", "cfg", "(", "test", ")", "]"];

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<String> {
        let package = Package {
            name: "millrace-new".into(),
            manifest: "filters/examples/new/Cargo.toml".into(),
            dependencies: Vec::new(),
            targets: Vec::new(),
        };
        let file = TextFile { path: path.into(), text: text.into() };
        complaints(&[package], &[file]).iter().map(ToString::to_string).collect()
    }

    fn assert_refused_in_line_2(text: &str) {
        let lines = lines("a.rs", text);
        assert!(lines.len() == 1 && lines[0].starts_with("a.rs:2:"), "{text}: {lines:?}");
    }

    #[test]
    fn an_unwrap_is_seen_in_code_and_in_macros() {
        assert_refused_in_line_2("fn f() {\n g().unwrap();\n}");
        assert_refused_in_line_2("fn f() {\n println!(\"{}\", g().unwrap());\n}");
        assert_refused_in_line_2("macro_rules! m { () => {\n g().unwrap() } }");
    }

    #[test]
    fn what_is_compiled_for_tests_alone_may_unwrap() {
        for text in [
            "#[cfg(test)] mod tests { fn f() { g().unwrap() } }",
            "#[cfg(test)] #[expect(dead_code)] fn f(x: [u8; 2]) -> u8 { g().unwrap() }",
        ] {
            assert_eq!(lines("a.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn what_follows_a_test_item_may_not() {
        assert_refused_in_line_2("#[cfg(test)] mod tests;\nfn f() { g().unwrap() }");
        assert_refused_in_line_2("#[cfg(test)] mod tests { fn f() {} }\nfn f() { g().unwrap() }");
        assert_refused_in_line_2("#[cfg(any(test, unix))]\nfn f() { g().unwrap() }");
    }

    #[test]
    fn other_methods_and_other_tokens_are_no_unwrap() {
        let text = "/// `x.unwrap()`\nfn f() { x.unwrap_or(\".unwrap()\") } // .unwrap()";
        assert_eq!(lines("a.rs", text), [""; 0]);
    }

    #[test]
    fn tests_benches_and_examples_of_a_crate_may_but_a_crate_that_is_an_example_may_not() {
        let text = "fn f() { g().unwrap() }";
        for path in ["a/tests/b.rs", "a/src/b/tests.rs", "benches/a/src/b.rs"] {
            assert_eq!(lines(path, text), [""; 0], "{path}");
        }
        assert_eq!(lines("filters/examples/new/examples/b.rs", text), [""; 0]);
        assert_eq!(lines("filters/examples/new/src/lib.rs", text).len(), 1);
    }
}
