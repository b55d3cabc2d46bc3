//! Why a registry has not given what it was asked for, or not taken what it was given.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use rustls::Error as TlsError;

use crate::manifest::ManifestError;

/// Why there is no answer, or a wrong one.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Nobody answers there, or somebody else.
    #[error("registry {registry} cannot be asked: {cause}{remedy}")]
    Unreachable {
        /// Who was asked.
        registry: String,
        /// What went wrong.
        cause: String,
        /// What may help.
        remedy: &'static str,
    },
    /// It has not said anything for long.
    #[error(
        "registry {registry} has said nothing for {seconds} s: see that nothing on the way there drops packets"
    )]
    Silent {
        /// Who was asked.
        registry: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It goes on for too long.
    #[error("it has taken {seconds} s, and is given up: the registry is too slow")]
    Slow {
        /// How long.
        seconds: u64,
    },
    /// It wants to know who asks.
    #[error(
        "registry {registry} wants credentials, and there are none for it: have them in the file that \
         `--registry-credentials` names"
    )]
    Anonymous {
        /// Who was asked.
        registry: String,
    },
    /// It knows who asks, and does not let them.
    #[error(
        "registry {registry} refuses those who ask with the credentials that are known for it ({status}): \
         see that they are right and may {rights}"
    )]
    Denied {
        /// Who was asked.
        registry: String,
        /// Its answer.
        status: u16,
        /// What they would have to have the right to.
        rights: &'static str,
    },
    /// It does not have it.
    #[error("registry {registry} has no {what}: see that it was pushed there, and under this name")]
    Missing {
        /// Who was asked.
        registry: String,
        /// For what.
        what: String,
    },
    /// It says no.
    #[error("registry {registry} answers {status}{said}")]
    Refused {
        /// Who was asked.
        registry: String,
        /// Its answer.
        status: u16,
        /// What it says of that, behind a colon.
        said: String,
    },
    /// It gives something else.
    #[error(
        "registry {registry} gives something else for {wanted}, which has {found}: nobody takes it"
    )]
    Another {
        /// Who was asked.
        registry: String,
        /// What was asked for.
        wanted: String,
        /// The digest of what was given.
        found: String,
    },
    /// It gives more than is taken.
    #[error("{what} is too large: {most} bytes are the most")]
    TooLarge {
        /// What is.
        what: String,
        /// How many there may be.
        most: usize,
    },
    /// It sends somewhere else, where nobody goes.
    #[error("registry {registry} sends to `{to}`, and nobody goes there: {why}")]
    Astray {
        /// Who was asked.
        registry: String,
        /// Where to.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// It asks for credentials in a way that is not known.
    #[error(
        "registry {registry} asks for credentials otherwise than by Basic or Bearer: `{asked}`"
    )]
    Challenge {
        /// Who was asked.
        registry: String,
        /// How it asks for them.
        asked: String,
    },
    /// An image that is no filter's.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file of credentials or certificates.
    #[error("{}: {cause}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The kernel gives nothing to wait with.
    #[error("nobody can be asked: {0}")]
    Runtime(io::Error),
}

impl RegistryError {
    /// What a connection says that was not made.
    pub(crate) fn unreachable(registry: &str, error: &(dyn Error + 'static)) -> Self {
        let mut causes = Vec::<String>::new();
        let mut remedy = "; see that it runs, and that this machine reaches it";
        let mut next = Some(error);
        while let Some(error) = next {
            let text = printable(&error.to_string());
            // who wraps an error often says it, too
            if !causes.last().is_some_and(|last| last.ends_with(&text)) {
                causes.push(text);
            }
            if let Some(tls) = tls_error(error) {
                remedy = self::remedy(tls).unwrap_or(remedy);
            }
            next = error.source();
        }
        // what says that there was an error is of no use beside it
        if causes.len() > 1 {
            causes.remove(0);
        }
        Self::Unreachable { registry: registry.to_owned(), cause: causes.join(": "), remedy }
    }
}

/// What TLS says, if this is that. Errors of I/O have it inside, and each other.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e TlsError> {
    match error.downcast_ref::<io::Error>() {
        Some(error) => tls_error(error.get_ref()?),
        None => error.downcast_ref(),
    }
}

/// What others say, for people: so much of it, and nothing that moves their cursor.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST).collect()
}

fn remedy(error: &TlsError) -> Option<&'static str> {
    match error {
        TlsError::InvalidCertificate(_) => {
            Some("; have the certificate of its authority in the file that `--registry-ca` names")
        }
        TlsError::InvalidMessage(_) => {
            Some("; if it speaks HTTP without TLS, name it with `--plain-http-registry`")
        }
        _ => None,
    }
}

/// Characters of what others say.
const LONGEST: usize = 160;
