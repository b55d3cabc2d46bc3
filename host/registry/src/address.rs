//! Addresses that a registry gives: of a layer that is elsewhere, of where it takes an upload, and of who
//! gives tokens.
//!
//! Owns where nobody goes: to who is asked without encryption, unless that is wanted, and by an address that
//! looks like another one.

use hyper::Uri;

/// An address that may be asked; those whose host and port are `plain` over HTTP, too.
///
/// # Errors
/// If it may not, and why.
pub fn read(text: &str, plain: impl Fn(&str) -> bool) -> Result<Uri, &'static str> {
    const NONE: &str = "that is no address";
    let uri: Uri = text.parse().map_err(|_| NONE)?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(NONE);
    };
    // what is before an `@` may look like the host
    match (authority.as_str().contains('@'), scheme) {
        (true, _) => Err("it has the name of a user in it"),
        (false, "https") => Ok(uri),
        (false, "http") if plain(authority.as_str()) => Ok(uri),
        (false, "http") => Err("it is not encrypted"),
        (false, _) => Err(NONE),
    }
}

/// Where a `Location` leads that was said at an address: it may be a path there.
pub fn absolute(here: &Uri, location: &str) -> String {
    match (here.scheme_str(), here.authority()) {
        (Some(scheme), Some(authority))
            if location.starts_with('/') && !location.starts_with("//") =>
        {
            format!("{scheme}://{authority}{location}")
        }
        _ => location.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_asked_over_tls_unless_they_are_of_a_registry_that_goes_without() {
        let plain = |host: &str| host == "127.0.0.1:5000";
        for (address, outcome) in [
            ("https://registry.example/v2/", Ok(())),
            ("https://127.0.0.1:5000/v2/", Ok(())),
            ("http://127.0.0.1:5000/token?a=b", Ok(())),
            ("http://127.0.0.1:5001/", Err("it is not encrypted")),
            ("http://registry.example/", Err("it is not encrypted")),
            ("http://127.0.0.1:5000@registry.example/", Err("it has the name of a user in it")),
            ("https://registry.example@other.example/", Err("it has the name of a user in it")),
            ("ftp://registry.example/", Err("that is no address")),
            ("registry.example", Err("that is no address")),
            ("/v2/", Err("that is no address")),
            ("//registry.example/", Err("that is no address")),
            ("https://", Err("that is no address")),
            ("https://registry.example/a b", Err("that is no address")),
            ("", Err("that is no address")),
        ] {
            assert_eq!(read(address, plain).map(drop), outcome, "{address}");
        }
    }

    #[test]
    fn a_path_leads_to_where_it_was_said() {
        let here: Uri = "https://registry.example:5000/v2/a?b".parse().unwrap();
        for (location, expected) in [
            ("/v2/c?d", "https://registry.example:5000/v2/c?d"),
            ("https://other.example/", "https://other.example/"),
            ("//other.example/", "//other.example/"),
            ("c", "c"),
            ("", ""),
        ] {
            assert_eq!(absolute(&here, location), expected);
        }
    }
}
