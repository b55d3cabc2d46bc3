//! What the kernel has, and what of it may be used.
//!
//! Each has another way to the same result, so each can be turned off; tests pass either way.

use rustix::system::uname;

/// Kernel features that are used where they are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Links for tc programs (Linux 6.6). Without them programs are filters of a `clsact` qdisc,
    /// which outlive a process that is killed.
    pub tcx: bool,
    /// `bpf_redirect_peer` marks packets as the receiver's own (Linux 6.15). Without, the program
    /// does.
    pub peer_marks_packets: bool,
    /// Programs may look at the kernel's own packet (Linux 6.2), and then change checksums where
    /// they stand. Without, the kernel's helpers do that.
    pub direct_checksums: bool,
}

impl Features {
    /// None at all.
    pub const OFF: Self = Self { tcx: false, peer_marks_packets: false, direct_checksums: false };

    /// What the running kernel has, by its version.
    pub fn of_kernel() -> Self {
        Self::of_release(&uname().release().to_string_lossy())
    }

    fn of_release(release: &str) -> Self {
        let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
        let mut number = || numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0u32);
        let version = (number(), number());
        Self {
            tcx: version >= (6, 6),
            peer_marks_packets: version >= (6, 15),
            direct_checksums: version >= (6, 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_follow_the_release() {
        for (release, direct_checksums, tcx, peer_marks_packets) in [
            ("5.15.0-91-generic", false, false, false),
            ("6.1.0-13-amd64", false, false, false),
            ("6.2.16", true, false, false),
            ("6.6.1", true, true, false),
            ("6.14.99", true, true, false),
            ("6.15-rc1", true, true, true),
            ("7.0", true, true, true),
            ("unheard of", false, false, false),
        ] {
            assert_eq!(
                Features::of_release(release),
                Features { tcx, peer_marks_packets, direct_checksums },
                "{release}"
            );
        }
    }
}
