//! Who else does on a node what its agent does: another network plugin, or kube-proxy.
//!
//! Owns the sentences about them. Nothing of theirs is changed: where two do the same, it is for people
//! to say who goes.

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::plugins::PLUGIN;

/// The other network plugins that the folder of the agent's own conflist configures. Files of people's own that
/// begin with ours, and have others follow it, are none of those.
pub(super) fn conflists(own: &Path) -> Vec<String> {
    let Some((folder, name)) = own.parent().zip(own.file_name()) else { return Vec::new() };
    // what cannot be read is not there for runtimes either
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut others: Vec<_> = files
        .map(|file| file.path())
        .filter(|path| path.extension().is_some_and(|it| READ.iter().any(|known| it == *known)))
        .filter(|path| path.file_name() != Some(name))
        .collect();
    others.sort();
    let others = others.iter().map(|path| (path, plugin_of(path)));
    others
        .filter(|(_, kind)| kind.as_deref() != Some(PLUGIN))
        .map(|(path, kind)| sentence(path, kind, path.file_name() < Some(name)))
        .collect()
}

/// kube-proxy, if it runs on this node.
pub(super) fn kube_proxy() -> Option<String> {
    let places: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    let mode = places.into_iter().find_map(|place| proxy_mode((place, PROXY_METRICS).into()))?;
    Some(format!(
        "kube-proxy runs here too (mode {mode}): pods do without it, the node itself meets its rules \
         first; remove its DaemonSet, and what it leaves with `kube-proxy --cleanup`"
    ))
}

fn sentence(path: &Path, kind: Option<String>, is_before: bool) -> String {
    let kind = kind.map(|kind| format!(" (plugin `{kind}`)")).unwrap_or_default();
    let path = path.display();
    if is_before {
        format!(
            "container runtimes take {path}{kind}, whose name sorts before the agent's file: pods \
             are not attached here; remove it, or name the agent's file so that it is first"
        )
    } else {
        format!(
            "{path}{kind} is another network plugin's: pods that it has attached are its own still; \
             start them anew, and remove it"
        )
    }
}

/// The type of the first plugin that a file configures.
fn plugin_of(path: &Path) -> Option<String> {
    let text: Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let first = text.get("plugins").map_or(Some(&text), |plugins| plugins.get(0))?;
    first.get("type")?.as_str().map(str::to_owned)
}

/// The mode that kube-proxy says it is in, where its metrics are.
fn proxy_mode(place: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&place, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET /proxyMode HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    // who answers more is somebody else
    stream.take(MOST_OF_AN_ANSWER).read_to_string(&mut answer).ok()?;
    let (head, mode) = answer.split_once("\r\n\r\n")?;
    let is_mode = !mode.is_empty() && mode.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (head.split(' ').nth(1) == Some("200") && is_mode).then(|| mode.to_owned())
}

/// The endings of files that runtimes read (`ConfFiles` in libcni).
const READ: [&str; 3] = ["conf", "conflist", "json"];
/// Where kube-proxy's metrics are (`metricsBindAddress` in KubeProxyConfiguration).
const PROXY_METRICS: u16 = 10249;
const PATIENCE: Duration = Duration::from_millis(200);
const MOST_OF_AN_ANSWER: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_files_of_other_plugins_are_named_and_what_runtimes_take_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let own = folder.path().join("05-millrace.conflist");
        write("05-millrace.conflist", r#"{"plugins": [{"type": "millrace-cni"}]}"#);
        write("04-mine.conflist", r#"{"plugins": [{"type": "millrace-cni"}, {"type": "tuning"}]}"#);
        write("README", "no configuration");
        assert_eq!(conflists(&own), [""; 0]);

        write("00-bridge.conf", r#"{"type": "bridge"}"#);
        write("10-flannel.conflist", r#"{"plugins": [{"type": "flannel"}, {"type": "portmap"}]}"#);
        write("99-broken.json", "{");
        let others = conflists(&own);
        let [before, after, broken] = &others[..] else { panic!("{others:?}") };
        assert!(before.contains("00-bridge.conf (plugin `bridge`)"), "{before}");
        assert!(before.contains("sorts before"), "{before}");
        assert!(after.contains("10-flannel.conflist (plugin `flannel`)"), "{after}");
        assert!(
            !after.contains("sorts before") && broken.contains("99-broken.json is"),
            "{others:?}"
        );
    }
}
