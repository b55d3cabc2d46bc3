//! XDP redirect between two interfaces: what the kernel can do without user space, for frames
//! that nobody decides about.

use anyhow::{Context, Result};
use aya::maps::DevMap;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;
use aya::{Ebpf, include_bytes_aligned};
use millrace_netns::Netlink;

/// The program on both interfaces; it goes when this is dropped.
pub struct Redirect {
    _programs: [Ebpf; 2],
}

impl Redirect {
    /// Starts between two interfaces of the calling thread's namespace.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn start(ports: [&str; 2]) -> Result<Self> {
        let net = Netlink::host()?;
        let index = |port: &str| net.link(port).map(|link| link.index);
        let [a, b] = [index(ports[0])?, index(ports[1])?];
        Ok(Self { _programs: [attach(a, b)?, attach(b, a)?] })
    }
}

/// Sends what comes in by one interface out of the other.
fn attach(from: u32, to: u32) -> Result<Ebpf> {
    let mut ebpf = Ebpf::load(OBJECT).context("the kernel does not load the XDP program")?;
    let map = ebpf.map_mut("out").expect("the object has the map");
    DevMap::try_from(map)?.set(0, to, None, 0).context("the target of the redirect")?;
    let program: &mut Xdp =
        ebpf.program_mut("redirect").expect("the object has the program").try_into()?;
    program.load().context("the kernel does not take the XDP program")?;
    let attached = program.attach_to_if_index(from, XdpMode::Driver);
    // drivers without XDP of their own have it behind them
    attached
        .or_else(|_| program.attach_to_if_index(from, XdpMode::Skb))
        .context("the interface does not take the XDP program")?;
    Ok(ebpf)
}

static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect.bpf.o"));
