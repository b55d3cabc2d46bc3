//! Names in pods: whom they ask, as kubelets tell them, where a lab has a DNS server for its cluster.
//!
//! Owns the files that stand for `/etc/resolv.conf` (resolv.conf(5)), one for each namespace. A
//! program sees the one of its pod because it is started in a mount namespace of its own, which costs
//! it nothing else; programs of pods alone do, not those of nodes.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use millrace_control::service::ClusterIps;
use millrace_control::{PodName, QualifiedName, World};

use crate::LabError;

/// Writes the files, if there is a Service `kube-dns` in `kube-system` that has addresses.
pub(crate) fn write(folder: &Path, world: &World) -> Result<(), LabError> {
    let dns = world.services.services.get(&QualifiedName::new("kube-system", "kube-dns"));
    let Some(ClusterIps::Addresses(servers)) = dns.map(|it| &it.cluster_ips) else {
        return Ok(());
    };
    let servers: String = servers.iter().map(|it| format!("nameserver {it}\n")).collect();
    let files = folder.join(FILES);
    fs::create_dir_all(&files).map_err(LabError::file(&files))?;
    let namespaces: BTreeSet<&str> = world.pods.keys().map(|pod| &*pod.namespace).collect();
    for namespace in namespaces {
        let search = format!("search {namespace}.svc.{DOMAIN} svc.{DOMAIN} {DOMAIN}\n");
        let file = file(folder, namespace);
        fs::write(&file, format!("{servers}{search}options ndots:5\n"))
            .map_err(LabError::file(file))?;
    }
    Ok(())
}

/// The words before a command of a pod's, so that names are resolved as its cluster wants it; none
/// where nobody resolves any.
pub(crate) fn words(folder: &Path, pod: &PodName) -> Vec<OsString> {
    let file = file(folder, &pod.namespace);
    if !file.exists() {
        return Vec::new();
    }
    let unshare = ["unshare", "--mount", "--propagation", "private", "sh", "-c", BIND];
    unshare.into_iter().map(OsString::from).chain([file.into_os_string()]).collect()
}

fn file(folder: &Path, namespace: &str) -> PathBuf {
    folder.join(FILES).join(format!("{namespace}.conf"))
}

const FILES: &str = "resolv";
/// What the shell does before it becomes the command; its own name is the file.
const BIND: &str = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
/// What clusters call themselves unless they are told otherwise.
const DOMAIN: &str = "cluster.local";

#[cfg(test)]
mod tests {
    use millrace_control::source::Manifests;

    use super::*;

    #[test]
    fn pods_ask_the_service_kube_dns_and_nobody_if_there_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let pod = PodName::new("shop", "web");
        let mut world = World::default();
        write(folder.path(), &world).expect("there is nothing to write");
        assert!(words(folder.path(), &pod).is_empty());

        let manifests = tempfile::tempdir().expect("a folder");
        let text = "{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system}, \
            spec: {clusterIPs: [10.96.0.53, 'fd96::53'], ports: [{port: 53}]}}\n---\n\
            {apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, \
            spec: {containers: [{name: c}]}}";
        fs::write(manifests.path().join("a.yaml"), text).expect("the folder is there");
        let manifests = Manifests::open(manifests.path()).expect("a folder");
        world = manifests.read().expect("it is there").0;
        write(folder.path(), &world).expect("the folder is there");
        let words = words(folder.path(), &pod);
        let text = fs::read_to_string(words.last().expect("the file")).expect("it is there");
        let expected = "nameserver 10.96.0.53\nnameserver fd96::53\n\
                        search shop.svc.cluster.local svc.cluster.local cluster.local\n\
                        options ndots:5\n";
        assert_eq!(text, expected);
    }
}
