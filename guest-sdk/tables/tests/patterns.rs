//! Names and patterns of them, against labels compared one by one.

use millrace_tables::Pattern;
use proptest::prelude::*;

/// Few labels, so that names often have something in common.
fn name() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "example", "com"]), 1..5)
}

proptest! {
    #[test]
    fn k4_a_star_is_one_label_or_more_and_nothing_else_is_but_itself(
        of in name(),
        pattern in name(),
        is_wild: bool,
    ) {
        let text = format!("{}{}", if is_wild { "*." } else { "" }, pattern.join("."));
        let Some(read) = Pattern::new(&text) else {
            prop_assert_eq!(pattern.len(), 1);
            return Ok(());
        };
        let expected = match is_wild {
            true => of.len() > pattern.len() && of[of.len() - pattern.len()..] == pattern[..],
            false => of == pattern,
        };
        prop_assert_eq!(read.has(&of.join(".")), expected, "{} of {:?}", text, of);
        prop_assert_eq!(read.text(), &*text);
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in ".{0,40}", name in ".{0,40}") {
        if let Some(pattern) = Pattern::new(&text) {
            pattern.has(&name);
        }
    }
}

#[test]
fn k4_what_is_no_pattern_is_refused() {
    let (label, long) = ("a".repeat(64), vec!["abcdefg"; 32].join("."));
    for text in [
        "",
        ".",
        "com",
        "*.com",
        "*",
        "*.",
        "a..b",
        ".a.b",
        "a.b.",
        "A.b",
        "a.*.b",
        "*a.b",
        "**.a.b",
        "-a.b",
        "a-.b",
        "_a.b",
        "a b.c",
        "ä.de",
        "a.b\0",
        &format!("{label}.com"),
        &long,
    ] {
        assert_eq!(Pattern::new(text), None, "{text}");
    }
    for text in ["a.b", "*.a.b", "a-b.c_d.e", "1.2", &format!("{}.com", &label[1..]), &long[..253]]
    {
        assert_eq!(Pattern::new(text).map(Pattern::text), Some(text));
    }
}
