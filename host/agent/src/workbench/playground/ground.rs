//! Three namespaces in a row: here, the host's, there.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use millrace_netns::{Namespace, VethSpec};
use rustix::process::{Pid, Signal, kill_process};

/// The namespaces, joined by wires.
pub(super) struct Ground {
    pub(super) here: Namespace,
    pub(super) host: Namespace,
    pub(super) there: Namespace,
}

/// The addresses of one side.
pub(super) struct Side {
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
}

impl Ground {
    /// Makes the namespaces and the wires.
    ///
    /// # Errors
    /// If the kernel does not let it; nothing is left behind then.
    pub(super) fn create() -> anyhow::Result<Self> {
        // a playground that was killed has left what ran in it, too
        let stale = format!("mr-{TAG}-");
        for name in Namespace::stale(&stale)? {
            clear(&[&Namespace::open(&name)?]);
        }
        Namespace::remove_stale(&stale)?;
        let create = |name| Namespace::create_unique(&format!("{TAG}-{name}"));
        let ground = Self { here: create("here")?, host: create("host")?, there: create("there")? };
        for (namespace, port, side) in
            [(&ground.here, PORTS[0], &HERE), (&ground.there, PORTS[1], &THERE)]
        {
            let net = ground.host.netlink()?;
            net.add_veth(&VethSpec::new(port, INSIDE).peer_namespace(namespace))?;
            // the host's end is a wire, and has nothing to say of its own
            ground.host.set_sysctl(&format!("net.ipv6.conf.{port}.disable_ipv6"), "1")?;
            net.set_up(port)?;
            let net = namespace.netlink()?;
            net.set_up(INSIDE)?;
            net.add_address(INSIDE, format!("{}/24", side.v4).parse()?)?;
            net.add_address(INSIDE, format!("{}/64", side.v6).parse()?)?;
        }
        Ok(ground)
    }
}

/// Ends what still runs in these namespaces: it would keep them.
pub(super) fn clear(namespaces: &[&Namespace]) {
    let theirs: Vec<_> =
        namespaces.iter().filter_map(|namespace| inode(namespace.path())).collect();
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        let id = process.file_name().to_str().and_then(|name| name.parse().ok());
        let inside = inode(&process.path().join("ns/net"));
        if inside.is_some_and(|inside| theirs.contains(&inside))
            && let Some(pid) = id.and_then(Pid::from_raw)
        {
            // it may have ended meanwhile
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// Which namespace a path leads to.
fn inode(path: &Path) -> Option<(u64, u64)> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// The host's interfaces: towards here, and towards there.
pub(super) const PORTS: [&str; 2] = ["here", "there"];
/// The side of the shell.
pub(super) const HERE: Side =
    Side { v4: Ipv4Addr::new(10, 77, 0, 1), v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1) };
/// The other side.
pub(super) const THERE: Side =
    Side { v4: Ipv4Addr::new(10, 77, 0, 2), v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2) };
/// The interface on either side.
const INSIDE: &str = "eth0";
/// What the names of the namespaces have in common.
const TAG: &str = "playground";
