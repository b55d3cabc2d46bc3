//! Where the API server is, and as whom it is asked.
//!
//! Owns that nothing needs a Service: what makes the Service `kubernetes` reachable is what has yet to
//! be told by the API server.

use std::fs;
use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

use crate::ClusterError;

/// A way to ask an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// As whoever runs a command is told to.
    User {
        /// The kubeconfig; else what `KUBECONFIG` names, or `~/.kube/config`, or the service account
        /// of the pod that this runs in.
        file: Option<PathBuf>,
        /// Its context; else the one that it has for current.
        context: Option<String>,
    },
    /// As a kubeconfig says.
    Kubeconfig(PathBuf),
    /// As a service account.
    ServiceAccount {
        /// Where the server is: a URL, or a kubeconfig of somebody else's that names it, such as the
        /// kubelet's.
        server: String,
        /// The folder with `token` and `ca.crt`, which are read anew as they change.
        folder: PathBuf,
    },
}

impl Access {
    /// What a client has to know.
    pub(crate) async fn config(&self) -> Result<Config, ClusterError> {
        match self {
            Self::User { file: Some(path), context } => {
                let context = KubeConfigOptions { context: context.clone(), ..Default::default() };
                let config = Config::from_custom_kubeconfig(read(path)?, &context).await;
                config.map_err(|source| ClusterError::Kubeconfig { path: path.clone(), source })
            }
            Self::User { file: None, context: None } => {
                Config::infer().await.map_err(|error| ClusterError::Place(error.to_string()))
            }
            Self::User { file: None, context } => {
                let context = KubeConfigOptions { context: context.clone(), ..Default::default() };
                let config = Config::from_kubeconfig(&context).await;
                config.map_err(|error| ClusterError::Place(error.to_string()))
            }
            Self::Kubeconfig(path) => {
                let file = read(path)?;
                let context = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(file, &context).await;
                config.map_err(|source| ClusterError::Kubeconfig { path: path.clone(), source })
            }
            Self::ServiceAccount { server, folder } => {
                let server = locate(server)?;
                let url = server
                    .parse()
                    .map_err(|_| ClusterError::Place(format!("`{server}` is no URL")))?;
                let file = |name| {
                    let path = folder.join(name);
                    // whoever reads it later does not say which it is
                    match fs::metadata(&path) {
                        Ok(_) => Ok(path),
                        Err(source) => Err(ClusterError::ServiceAccount { path, source }),
                    }
                };
                let mut config = Config::new(url);
                config.root_cert_file = Some(file("ca.crt")?);
                // the file is what counts; without a list, the system's own is looked for, which an
                // image need not have
                config.root_cert = Some(Vec::new());
                config.auth_info.token_file = Some(file("token")?.display().to_string());
                Ok(config)
            }
        }
    }
}

/// The URL of the server.
fn locate(place: &str) -> Result<String, ClusterError> {
    if place.contains("://") {
        return Ok(place.to_owned());
    }
    let file = read(Path::new(place))?;
    let context = file.contexts.iter().find(|it| Some(&it.name) == file.current_context.as_ref());
    let cluster = context.and_then(|it| it.context.as_ref()).map(|it| &it.cluster);
    let cluster = file.clusters.iter().find(|it| Some(&it.name) == cluster);
    let server = cluster.and_then(|it| it.cluster.as_ref()).and_then(|it| it.server.clone());
    server.ok_or_else(|| {
        ClusterError::Place(format!("{place}: its current context leads to no server"))
    })
}

fn read(path: &Path) -> Result<Kubeconfig, ClusterError> {
    Kubeconfig::read_from(path)
        .map_err(|source| ClusterError::Kubeconfig { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_where_the_kubelets_own_configuration_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubelet.conf");
        let write = |context: &str| {
            let text = format!(
                "clusters: [{{name: a, cluster: {{server: 'https://192.0.2.1:6443'}}}},
                            {{name: b, cluster: {{server: 'https://192.0.2.2:6443'}}}}]
contexts: [{{name: x, context: {{cluster: b, user: kubelet}}}}]
current-context: {context}
users: [{{name: kubelet, user: {{client-certificate: /nowhere, client-key: /nowhere}}}}]"
            );
            fs::write(&path, text).unwrap();
        };
        write("x");
        let place = path.to_str().unwrap();
        assert_eq!(locate(place).unwrap(), "https://192.0.2.2:6443");
        assert_eq!(locate("https://192.0.2.9").unwrap(), "https://192.0.2.9");
        write("y");
        let error = locate(place).unwrap_err().to_string();
        assert!(error.contains("kubelet.conf: its current context"), "{error}");
        let error = locate("/nowhere/kubelet.conf").unwrap_err().to_string();
        assert!(error.contains("/nowhere/kubelet.conf"), "{error}");
    }

    #[test]
    fn a_pod_without_a_service_account_says_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let server = "https://192.0.2.1:6443".to_owned();
        let access = Access::ServiceAccount { server, folder: folder.path().to_owned() };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(access.config()).unwrap_err().to_string();
        assert!(error.contains("ca.crt") && error.contains("service account"), "{error}");
    }
}
