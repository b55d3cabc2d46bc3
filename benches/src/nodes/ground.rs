//! Two nodes with a pod each, in namespaces, and a wire between the nodes.
//!
//! ```text
//!   pod ── eth0 ═══ pod0 (node) under0 ═══ under0 (node) pod0 ═══ eth0 ── pod
//! ```
//! Each peer has such a ground of its own, and all stand side by side: who is not measured rests.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipnetwork::IpNetwork;
use millrace_netns::{Namespace, Route, VethSpec};
use millrace_traffic::End;
use millrace_traffic::sink::{DISCARD, Sink};

/// The ground of a peer.
pub struct Ground {
    sites: [Site; 2],
}

/// A node and its pod.
pub struct Site {
    /// The node's namespace.
    pub node: Namespace,
    /// The pod's.
    pub pod: Namespace,
    number: u8,
}

impl Ground {
    /// Makes it, with so much room for a pod's packets.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn new(mtu: u32) -> Result<Self> {
        let site = |number| -> Result<Site> {
            let node = Namespace::create_unique("bench-node")?;
            let pod = Namespace::create_unique("bench-pod")?;
            Ok(Site { node, pod, number })
        };
        let ground = Self { sites: [site(0)?, site(1)?] };
        let [here, there] = &ground.sites;
        let wire = VethSpec::new(UNDERLAY, UNDERLAY).peer_namespace(&there.node);
        here.node.netlink()?.add_veth(&wire)?;
        for site in &ground.sites {
            site.settle(mtu)?;
        }
        Ok(ground)
    }

    /// Both nodes, each with the other one.
    pub fn pairs(&self) -> [(&Site, &Site); 2] {
        let [here, there] = &self.sites;
        [(here, there), (there, here)]
    }

    /// Who sends, and asks.
    pub fn near(&self) -> End<'_> {
        self.sites[0].end()
    }

    /// Who receives, and answers.
    pub fn far(&self) -> End<'_> {
        self.sites[1].end()
    }

    /// Counts, and takes out, the datagrams of a blast that arrive at the far pod.
    ///
    /// # Errors
    /// If the kernel does not take the program.
    pub fn sink(&self) -> Result<Sink> {
        Ok(Sink::attach(&self.sites[1].pod, POD_LINK, DISCARD)?)
    }

    /// Waits until a packet has passed in each direction.
    ///
    /// # Errors
    /// If none does for some seconds.
    pub fn greet(&self) -> Result<()> {
        let socket = |end: End<'_>| end.namespace.run(|| UdpSocket::bind((end.address, 0)));
        let (near, far) = (socket(self.near())??, socket(self.far())??);
        for (from, to) in [(&near, &far), (&far, &near)] {
            to.set_read_timeout(Some(GREETING))?;
            let (start, address) = (Instant::now(), to.local_addr()?);
            loop {
                // a node whose links have just come up may refuse at first
                let _ = from.send_to(b"x", address);
                if to.recv(&mut [0]).is_ok() {
                    break;
                }
                ensure!(start.elapsed() < PATIENCE, "no packet passes to {address}");
            }
        }
        Ok(())
    }
}

impl Site {
    fn settle(&self, mtu: u32) -> Result<()> {
        let (node, pod) = (self.node.netlink()?, self.pod.netlink()?);
        let veth = VethSpec::new(POD_PORT, POD_LINK).peer_namespace(&self.pod).mtu(mtu);
        node.add_veth(&veth)?;
        for (namespace, net, link) in [
            (&self.node, &node, POD_PORT),
            (&self.node, &node, UNDERLAY),
            (&self.pod, &pod, POD_LINK),
        ] {
            // nothing but the bench's own packets
            namespace.set_sysctl(&format!("net.ipv6.conf.{link}.disable_ipv6"), "1")?;
            net.set_up(link)?;
        }
        node.add_address(UNDERLAY, network(self.address(), 24))?;
        self.node.set_sysctl("net.ipv4.ip_forward", "1")?;
        pod.add_address(POD_LINK, network(self.pod_address(), 24))?;
        pod.add_route(&Route::to(network(Ipv4Addr::UNSPECIFIED.into(), 0)).via(self.gateway()))?;
        Ok(())
    }

    fn end(&self) -> End<'_> {
        End { namespace: &self.pod, address: self.pod_address() }
    }

    /// The node's address on the underlay.
    pub fn address(&self) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, self.number + 1).into()
    }

    /// The prefix of its pods.
    pub fn pods(&self) -> IpNetwork {
        network(self.place(0), 24)
    }

    /// What its pods know the node by.
    pub fn gateway(&self) -> IpAddr {
        self.place(1)
    }

    /// The pod's address.
    pub fn pod_address(&self) -> IpAddr {
        self.place(2)
    }

    /// The MAC address of the pod.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn pod_mac(&self) -> Result<[u8; 6]> {
        let link = self.pod.netlink()?.link(POD_LINK)?;
        link.mac.context("a pod's interface has a MAC address")
    }

    /// Of the network that is reserved for benchmarks (RFC 2544 appendix C).
    fn place(&self, host: u8) -> IpAddr {
        Ipv4Addr::new(198, 18, self.number, host).into()
    }
}

fn network(address: IpAddr, length: u8) -> IpNetwork {
    IpNetwork::new(address, length).expect("a length that fits")
}

/// The node's end of a pod's link.
pub const POD_PORT: &str = "pod0";
/// The node's link to the other node.
pub const UNDERLAY: &str = "under0";
/// Bytes of the largest IP packet between nodes.
pub const UNDERLAY_MTU: u32 = 1500;
/// Bytes that VXLAN takes of it, over IPv4.
pub const TUNNEL_OVERHEAD: u32 = 50;
const POD_LINK: &str = "eth0";
/// How often a greeting is repeated.
const GREETING: Duration = Duration::from_millis(10);
/// How long a path may take to carry packets.
const PATIENCE: Duration = Duration::from_secs(5);
