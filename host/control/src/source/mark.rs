//! What tells a directory's manifests from those of another time.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The same names and texts have the same one, on every node and after every restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(String);

impl Mark {
    /// That of files with these names and texts; one that cannot be read has none.
    pub(super) fn of<'f>(files: impl Iterator<Item = (&'f Path, Option<&'f str>)>) -> Self {
        let mut digest = Sha256::new();
        for (name, text) in files {
            for octets in [name.as_os_str().as_encoded_bytes(), text.unwrap_or_default().as_bytes()]
            {
                // so that no two have the same octets together
                digest.update((octets.len() as u64).to_le_bytes());
                digest.update(octets);
            }
        }
        let digest = digest.finalize();
        Self(digest.iter().take(OCTETS).map(|octet| format!("{octet:02x}")).collect())
    }
}

impl fmt::Display for Mark {
    /// `5feceb66ffc86f38`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Enough for those of one directory.
const OCTETS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_and_other_texts_have_other_marks() {
        let mark = |files: &[(&str, &str)]| {
            Mark::of(files.iter().map(|(name, text)| (Path::new(*name), Some(*text))))
        };
        let all = [
            mark(&[]),
            mark(&[("a.yaml", "")]),
            mark(&[("a.yaml", "x")]),
            mark(&[("b.yaml", "x")]),
            mark(&[("a.yaml", "x"), ("b.yaml", "")]),
            mark(&[("a.yaml", ""), ("b.yaml", "x")]),
        ];
        for (at, one) in all.iter().enumerate() {
            assert_eq!(one.to_string().len(), 16);
            assert!(all[..at].iter().all(|other| other != one), "{one}");
        }
        assert_eq!(mark(&[("a.yaml", "x")]), all[2]);
    }
}
