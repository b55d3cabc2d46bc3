//! How a registry asks for credentials: `WWW-Authenticate` (RFC 9110, 11.6.1), and the tokens that
//! registries take from somebody else.

use std::collections::BTreeMap;

/// A way in which credentials are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// With each request.
    Basic,
    /// By a token that somebody gives.
    Bearer(TokenQuestion),
}

/// Who gives a token, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenQuestion {
    /// The URL to ask at.
    pub realm: String,
    /// Who is to take it.
    pub service: Option<String>,
    /// What it is to allow.
    pub scope: Option<String>,
}

impl Challenge {
    /// The first of a header's challenges that is known; tokens go before passwords.
    pub fn read(header: &str) -> Option<Self> {
        let mut known: Vec<_> = challenges(header).into_iter().filter_map(Self::of).collect();
        known.sort_by_key(|challenge| *challenge == Self::Basic);
        known.into_iter().next()
    }

    fn of((scheme, mut parameters): (String, BTreeMap<String, String>)) -> Option<Self> {
        match &*scheme {
            "basic" => Some(Self::Basic),
            "bearer" => Some(Self::Bearer(TokenQuestion {
                realm: parameters.remove("realm")?,
                service: parameters.remove("service"),
                scope: parameters.remove("scope"),
            })),
            _ => None,
        }
    }
}

impl TokenQuestion {
    /// The URL with all that is asked; what a registry does not say of it is `scope`.
    pub fn url(&self, scope: &str) -> String {
        let scope = self.scope.as_deref().unwrap_or(scope);
        let service = self.service.as_deref().map(|it| ("service", it));
        let query = service.into_iter().chain([("scope", scope)]);
        let query: Vec<_> = query.map(|(key, value)| format!("{key}={}", encoded(value))).collect();
        let mark = if self.realm.contains('?') { '&' } else { '?' };
        format!("{}{mark}{}", self.realm, query.join("&"))
    }
}

/// Schemes and their parameters, both in lower case; what cannot be read is passed over.
fn challenges(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(end);
        let word = word.to_ascii_lowercase();
        let Some(value) = behind.trim_start().strip_prefix('=') else {
            if word.is_empty() {
                return found;
            }
            found.push((word, BTreeMap::new()));
            rest = behind;
            continue;
        };
        let (value, behind) = parameter(value.trim_start());
        rest = behind;
        if let Some((_, parameters)) = found.last_mut() {
            parameters.entry(word).or_insert(value);
        }
    }
}

/// A value, in quotes or not, and what is behind it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, behind) = text.split_at(text.find([' ', '\t', ',']).unwrap_or(text.len()));
        return (value.to_owned(), behind);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, c)| c)),
            c => value.push(c),
        }
    }
    (value, "")
}

/// As a value in a query (RFC 3986).
pub(crate) fn encoded(text: &str) -> String {
    let octet = |octet: u8| match octet {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(octet).to_string()
        }
        octet => format!("%{octet:02X}"),
    };
    text.bytes().map(octet).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let [service, scope] = [service, scope].map(|it| it.map(str::to_owned));
        Some(Challenge::Bearer(TokenQuestion { realm: realm.to_owned(), service, scope }))
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        for (header, expected) in [
            (r#"Basic realm="a, b""#, Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
                token(
                    "https://auth.example/token",
                    Some("registry.example"),
                    Some("repository:a/b:pull,push"),
                ),
            ),
            (r#"BEARER Realm = "https://a/b?c" , error=x"#, token("https://a/b?c", None, None)),
            (r#"Basic realm="x", Bearer realm="https://a""#, token("https://a", None, None)),
            (r#"Negotiate, Basic realm="\"q\"""#, Some(Challenge::Basic)),
            (r#"Bearer service="a""#, None),
            ("Negotiate", None),
            ("", None),
            (r#"Bearer realm="https://a"#, token("https://a", None, None)),
        ] {
            assert_eq!(Challenge::read(header), expected, "{header}");
        }
    }

    #[test]
    fn a_token_is_asked_for_with_what_the_registry_says_of_it() {
        let url = |realm: &str, service, scope| match token(realm, service, scope) {
            Some(Challenge::Bearer(question)) => question.url("repository:x:pull"),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            url("https://a/t", Some("r&d é"), Some("repository:a/b:pull,push")),
            "https://a/t?service=r%26d%20%C3%A9&scope=repository%3Aa%2Fb%3Apull%2Cpush"
        );
        assert_eq!(
            url("https://a/t?x=1", None, None),
            "https://a/t?x=1&scope=repository%3Ax%3Apull"
        );
    }

    proptest! {
        #[test]
        fn every_header_comes_to_an_end(header in "[ -~\u{80}-\u{ff}]{0,80}") {
            let _ = Challenge::read(&header);
            let _ = Challenge::read(&format!("Bearer realm=\"{header}"));
        }
    }
}
