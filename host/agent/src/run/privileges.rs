//! What a host needs to be allowed, checked before anything is opened: the kernel's own
//! refusals do not say which privilege is missing.

use std::fs;

use anyhow::bail;

/// Fails with the names of the capabilities that this process lacks.
pub(crate) fn check() -> anyhow::Result<()> {
    // without /proc the kernel decides
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(()) };
    let missing = missing(&status);
    if !missing.is_empty() {
        bail!(
            "this process may not hold interfaces: it lacks {}; run it as root, or give it these \
             capabilities (systemd: AmbientCapabilities=)",
            missing.join(", ")
        );
    }
    Ok(())
}

/// The capabilities that a process with this `/proc/PID/status` lacks.
fn missing(status: &str) -> Vec<&'static str> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(held) = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()) else {
        return Vec::new();
    };
    let lacks = |bit: u32| held & (1 << bit) == 0;
    NEEDED.iter().filter(|(bit, _)| lacks(*bit)).map(|(_, name)| *name).collect()
}

/// With their bits (`include/uapi/linux/capability.h`).
const NEEDED: &[(u32, &str)] = &[
    (12, "CAP_NET_ADMIN (to attach XDP programs)"),
    (13, "CAP_NET_RAW (to open AF_XDP sockets)"),
    (21, "CAP_SYS_ADMIN (to make a network namespace for packet memory)"),
    (39, "CAP_BPF (to load XDP programs)"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let lacks = |mask: &str| missing(&format!("Name:\tx\nCapEff:\t{mask}\n"));
        assert_eq!(lacks("000001ffffffffff"), [""; 0]);
        assert_eq!(lacks("0000000000000000").len(), NEEDED.len());
        let names = lacks("000001ffffffefff");
        assert_eq!(names, ["CAP_NET_ADMIN (to attach XDP programs)"]);
    }
}
