//! How the command line says how registries of images are asked, for those who take modules from them and
//! bring them there.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Args;
use millrace_registry::Registries;

/// How registries are asked.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RegistryArgs {
    /// A file with credentials for registries, in the form of Docker's `config.json`, which a Secret
    /// of the type kubernetes.io/dockerconfigjson has, too. It is read anew whenever a registry asks.
    #[arg(long, value_name = "FILE")]
    registry_credentials: Option<PathBuf>,

    /// A file with certificates (PEM) of authorities that vouch for registries, beside those that the
    /// system knows.
    #[arg(long, value_name = "FILE")]
    registry_ca: Option<PathBuf>,

    /// A registry that is asked over HTTP without TLS, as images name it; may be said several times.
    /// Whoever is on the way can read the credentials for it; a digest keeps them from putting
    /// another module in the place of one. Registries at addresses of the loopback need not be named.
    #[arg(long, value_name = "HOST[:PORT]")]
    plain_http_registry: Vec<String>,
}

impl RegistryArgs {
    /// The same, as arguments of another program.
    pub(crate) fn words(&self) -> Vec<OsString> {
        let word = |flag: &str, value: &OsStr| {
            let mut word = OsString::from(flag);
            word.push(value);
            word
        };
        let credentials = self.registry_credentials.iter();
        let credentials = credentials.map(|it| word("--registry-credentials=", it.as_os_str()));
        let authorities = self.registry_ca.iter().map(|it| word("--registry-ca=", it.as_os_str()));
        let plain = self.plain_http_registry.iter();
        let plain = plain.map(|it| word("--plain-http-registry=", it.as_ref()));
        credentials.chain(authorities).chain(plain).collect()
    }

    /// How they are asked.
    pub(crate) fn registries(self) -> Registries {
        Registries {
            credentials: self.registry_credentials,
            authorities: self.registry_ca,
            plain: self.plain_http_registry,
        }
    }
}
