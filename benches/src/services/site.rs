//! A client, and the pods behind a Service, which are one namespace with an address for each.
//!
//! Everything that a pod sends goes by way of its gateway, as on a node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ipnetwork::IpNetwork;
use millrace_netns::Route;
use millrace_traffic::connect::{ConnectSettings, connect};
use millrace_traffic::sink::{DISCARD, Sink};
use millrace_traffic::{End, Server};

use crate::pods::{GATEWAY_ADDRESS, POD_LINK};
use crate::veth::ground::Ground;

/// The ground, and where the Service is.
pub struct Site {
    /// Where packets are carried.
    pub ground: Ground,
    through: [SocketAddr; 2],
}

impl Site {
    /// Makes it; the Service is reached at these, over TCP and UDP.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub(super) fn new(through: [SocketAddr; 2]) -> Result<Self> {
        let ground = Ground::new(None)?;
        let [near, far] = [ground.near(), ground.far()].map(|pod| pod.namespace.netlink());
        let (near, far) = (near?, far?);
        for address in &ENDPOINTS[1..] {
            far.add_address(POD_LINK, (*address).into())?;
        }
        let [tcp, _] = through;
        let to_pods = ENDPOINTS.map(|to| (&near, to));
        for (pod, to) in to_pods.into_iter().chain([(&near, tcp.ip()), (&far, CLIENT)]) {
            let by_gateway = Route::to(IpNetwork::from(to)).via(GATEWAY_ADDRESS.into());
            pod.add_route(&by_gateway.link(POD_LINK).onlink())?;
        }
        Ok(Self { ground, through })
    }

    /// Who connects, and sends.
    pub fn client(&self) -> End<'_> {
        self.ground.near()
    }

    /// Who is behind the Service.
    pub fn server(&self) -> Server<'_> {
        let [through, _] = self.through;
        let at = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), TARGET);
        Server { namespace: self.ground.far().namespace, at, through: Some(through) }
    }

    /// Where datagrams go that are to be counted.
    pub fn discard(&self) -> SocketAddr {
        self.through[1]
    }

    /// Counts, and takes out, the datagrams of a blast that arrive behind the Service.
    ///
    /// # Errors
    /// If the kernel does not take the program.
    pub fn sink(&self) -> Result<Sink> {
        Ok(Sink::attach(self.ground.far().namespace, POD_LINK, DISCARD)?)
    }

    /// Waits until connections pass.
    ///
    /// # Errors
    /// If none does for some seconds.
    pub fn greet(&self) -> Result<()> {
        let (start, settings) =
            (Instant::now(), ConnectSettings { time: GREETING, ..<_>::default() });
        loop {
            match connect(self.client(), self.server(), settings) {
                Ok(made) if made.resets == 0 => return Ok(()),
                unmade => {
                    ensure!(start.elapsed() < PATIENCE, "no connection to the Service: {unmade:?}")
                }
            }
        }
    }
}

/// The client's address.
pub(super) const CLIENT: IpAddr = pod(1);
/// Those of the pods behind the Service.
pub(super) const ENDPOINTS: [IpAddr; 3] = [pod(2), pod(3), pod(4)];
/// All pods' network.
pub(super) const PODS: &str = "198.18.0.0/24";
/// Where the Service is reached over TCP.
pub(super) const HTTP: u16 = 80;
/// Where its pods are.
pub(super) const TARGET: u16 = 8080;

/// Of the network that is reserved for benchmarks (RFC 2544 appendix C).
const fn pod(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 18, 0, host))
}

/// How long a greeting takes.
const GREETING: Duration = Duration::from_millis(10);
/// How long a path may take to carry connections.
const PATIENCE: Duration = Duration::from_secs(5);
