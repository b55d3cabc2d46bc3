//! Where `unsafe` may stand, and what stands above it.
//!
//! The lints of the workspace deny `unsafe` and ask for a `SAFETY` comment, but a lint can be
//! allowed anywhere and does not read: here is the one list of files, and the form.

use std::path::Path;

use crate::tokens::{starts_with, tokens};
use crate::{Complaint, TextFile};

/// The files that contain `unsafe`, and no others do.
pub const FILES: &[&str] = &[
    "guest-sdk/sdk/src/boundary.rs",
    "host/fastpath/src/kernel.rs",
    "host/netns/src/ethtool.rs",
    "host/netns/src/ns.rs",
    "host/sandbox/src/cache.rs",
    "host/sandbox/src/memory.rs",
    "host/xsk/src/anchor.rs",
    "host/xsk/src/socket.rs",
    "host/xsk/src/umem.rs",
];

/// Every `unsafe` outside of the `listed` files, in code or in the body of a macro.
pub fn outside_the_list(files: &[TextFile], listed: &[&str]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust() && !is_listed(file, listed)) {
        for token in tokens(file).iter().filter(|token| token.text == "unsafe") {
            let message =
                format!("`unsafe` is for the files listed in {LIST}: {}", listed.join(", "));
            complaints.push(Complaint::at(&file.path, token.line, message));
        }
    }
    complaints
}

/// `listed` files that are gone, or have no `unsafe`.
pub fn listed_in_vain(files: &[TextFile], listed: &[&str]) -> Vec<Complaint> {
    let has_unsafe = |path: &&&str| {
        let mut files = files.iter().filter(|file| file.path == Path::new(path));
        files.any(|file| tokens(file).iter().any(|token| token.text == "unsafe"))
    };
    listed
        .iter()
        .filter(|path| !has_unsafe(path))
        .map(|path| {
            Complaint::about(Path::new(path), format!("no `unsafe`: remove it from {LIST}"))
        })
        .collect()
}

/// Every unsafe block without a reason in the form that can be checked.
pub fn without_a_reason(files: &[TextFile]) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let lines: Vec<_> = file.text.lines().collect();
        let tokens = tokens(file);
        for block in tokens.windows(2).filter(|pair| starts_with(pair, &["unsafe", "{"])) {
            let line = block[0].line;
            if !reason(&lines, line).is_some_and(|text| text.contains("holds")) {
                complaints.push(Complaint::at(&file.path, line, FORM));
            }
        }
    }
    complaints
}

fn is_listed(file: &TextFile, listed: &[&str]) -> bool {
    listed.iter().any(|path| file.path == Path::new(path))
}

/// What the comment above the statement of line `line` (from 1) says after `SAFETY:`.
fn reason(lines: &[&str], line: usize) -> Option<String> {
    let mut above = lines[..line - 1].iter().rev().map(|line| line.trim()).peekable();
    let ends_statement = |line: &str| line.is_empty() || line.ends_with([';', '{', '}', ',']);
    while above.next_if(|line| !line.starts_with("//") && !ends_statement(line)).is_some() {}
    let mut comment: Vec<_> = above.take_while(|line| line.starts_with("//")).collect();
    comment.reverse();
    let comment = comment.join("\n");
    let (_, text) = comment.split_once("// SAFETY:")?;
    Some(text.to_owned())
}

const LIST: &str = "tests/repository/src/unsafety.rs";
const FORM: &str = "put a comment above: `// SAFETY: holds because <why>, established at <where>.`";

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Vec<TextFile> {
        vec![TextFile { path: "a.rs".into(), text: text.into() }]
    }

    #[test]
    fn unsafe_code_is_seen_wherever_it_hides() {
        for text in [
            "fn f() { unsafe { g() } }",
            "unsafe impl Sync for T {}",
            "#[unsafe(no_mangle)] fn f() {}",
            "unsafe extern \"C\" {}",
            "macro_rules! m { () => { unsafe { g() } } }",
            "fn f() { quote! { unsafe fn g() {} } }",
        ] {
            assert_eq!(outside_the_list(&file(text), &[]).len(), 1, "{text}");
            assert_eq!(outside_the_list(&file(text), &["a.rs"]), [], "{text}");
        }
    }

    #[test]
    fn the_word_alone_is_no_unsafe_code() {
        for text in [
            "#![forbid(unsafe_code)]",
            "#![deny(unsafe_op_in_unsafe_fn)]",
            "//! Nothing unsafe.",
            "/* unsafe */ // unsafe { }",
            "const WORD: &str = \"unsafe { }\";",
        ] {
            assert_eq!(outside_the_list(&file(text), &[]), [], "{text}");
            assert_eq!(listed_in_vain(&file(text), &["a.rs"]).len(), 1, "{text}");
        }
    }

    #[test]
    fn a_listed_file_that_is_gone_is_named() {
        assert_eq!(listed_in_vain(&[], FILES).len(), FILES.len());
    }

    #[test]
    fn a_reason_stands_above_the_statement() {
        for text in [
            "// SAFETY: holds because.\nlet a = unsafe { g() };",
            "// SAFETY: the claim\n// holds because.\nunsafe { g() }",
            "// SAFETY: holds because.\nlet a =\n    unsafe { g() };",
            "// SAFETY: holds because.\n#[expect(x)]\nunsafe { g() }",
            "let b = 1;\n// why this way\n// SAFETY: holds because.\nunsafe { g() }",
        ] {
            assert_eq!(without_a_reason(&file(text)), [], "{text}");
        }
    }

    #[test]
    fn a_reason_of_another_form_or_of_another_statement_does_not_count() {
        for text in [
            "unsafe { g() }",
            "// SAFETY: trust me.\nunsafe { g() }",
            "// it holds because.\nunsafe { g() }",
            "// SAFETY: holds because.\n\nunsafe { g() }",
            "// SAFETY: holds because.\nlet a = unsafe { g() };\nlet b = unsafe { g() };",
            "// SAFETY: holds because.\nif let Some(a) = b {\n    unsafe { g() }\n}",
        ] {
            assert_eq!(without_a_reason(&file(text)).len(), 1, "{text}");
        }
    }
}
