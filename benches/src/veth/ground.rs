//! Where traffic runs: two ends in namespaces of their own, and the two interfaces between which
//! whoever is measured carries it.
//!
//! ```text
//!   near ── link ═══ port A   (who is measured)   port B ═══ link ── far
//! ```
//! On veths the three namespaces are made, and gone with this. On interfaces that the user names,
//! ports stay where they are, and what they face moves into the namespaces of the ends until this
//! is dropped.

use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use millrace_netns::{Link, Namespace, Netlink, VethSpec};
use millrace_traffic::End;
use millrace_traffic::sink::{DISCARD, Sink};

/// Interfaces that the user names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// What is measured carries packets between these.
    pub ports: [String; 2],
    /// What each of them faces; `None` for veths, which know their other end.
    pub facing: Option<[String; 2]>,
}

/// Where traffic runs.
pub struct Ground {
    host: Namespace,
    ports: [String; 2],
    near: Side,
    far: Side,
}

/// One end's namespace, and the interface in it.
struct Side {
    namespace: Namespace,
    link: String,
    address: IpAddr,
    /// Where the interface is from, if it was not made here.
    home: Option<Namespace>,
}

/// What the ends' interfaces have to be like for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Whether transport checksums are left to the device. Who sends a frame on as it is, with a
    /// sum that nobody has completed, needs ends that do not.
    pub leave_checksums: bool,
    /// Whether received packets are put together (GRO). A veth takes redirected frames only then.
    pub gather: bool,
}

impl Ends {
    /// As pods are.
    pub const USUAL: Self = Self { leave_checksums: true, gather: false };
}

impl Ground {
    /// The ground that was asked for: on interfaces that have names, or on veths.
    ///
    /// # Errors
    /// If the kernel refuses, or an interface is in use.
    pub fn new(named: Option<&Named>) -> Result<Self> {
        let ground = match named {
            None => Self::on_veths()?,
            Some(named) => Self::on_named(named)?,
        };
        for side in [&ground.near, &ground.far] {
            side.settle().with_context(|| format!("preparing `{}`", side.link))?;
        }
        ground.settle_ports()?;
        Ok(ground)
    }

    fn on_veths() -> Result<Self> {
        let host = Namespace::create_unique("bench-host")?;
        let net = host.netlink()?;
        let side = |port: &str, address: &str| -> Result<Side> {
            let namespace = Namespace::create_unique("bench-pod")?;
            net.add_veth(&VethSpec::new(port, LINK).peer_namespace(&namespace))?;
            let address = address.parse().expect("the constant is an address");
            Ok(Side { namespace, link: LINK.to_owned(), address, home: None })
        };
        let (near, far) = (side(PORTS[0], NEAR)?, side(PORTS[1], FAR)?);
        Ok(Self { host, ports: PORTS.map(str::to_owned), near, far })
    }

    fn on_named(named: &Named) -> Result<Self> {
        let host = Namespace::current()?;
        let net = host.netlink()?;
        let facing = match &named.facing {
            Some(facing) => facing.clone(),
            None => [peer_of(&net, &named.ports[0])?, peer_of(&net, &named.ports[1])?],
        };
        for link in named.ports.iter().chain(&facing) {
            let addresses = net.addresses_of(link)?;
            // an address of the link alone comes by itself, and goes
            let in_use = addresses.iter().find(|address| match address.ip() {
                IpAddr::V4(_) => true,
                IpAddr::V6(address) => !address.is_unicast_link_local(),
            });
            if let Some(address) = in_use {
                bail!("`{link}` has the address {address}: interfaces to be measured have none");
            }
        }
        let side = |link: &String, address: &str| -> Result<Side> {
            let namespace = Namespace::create_unique("bench-end")?;
            net.move_to(link, &namespace)?;
            let address = address.parse().expect("the constant is an address");
            let home = Some(Namespace::current()?);
            Ok(Side { namespace, link: link.clone(), address, home })
        };
        let (near, far) = (side(&facing[0], NEAR)?, side(&facing[1], FAR)?);
        Ok(Self { host, ports: named.ports.clone(), near, far })
    }

    fn settle_ports(&self) -> Result<()> {
        let net = self.host.netlink()?;
        for port in &self.ports {
            // nothing but the benches' own packets
            let key = format!("net/ipv6/conf/{port}/disable_ipv6");
            let _ = self.host.set_sysctl(&key, "1");
            net.set_up(port)?;
        }
        Ok(())
    }

    /// The namespace in which packets are carried.
    pub fn host(&self) -> &Namespace {
        &self.host
    }

    /// The interfaces between which they are carried.
    pub fn ports(&self) -> [&str; 2] {
        [&self.ports[0], &self.ports[1]]
    }

    /// The MAC addresses behind the ports: those of the ends.
    ///
    /// # Errors
    /// If the kernel does not say, or the interfaces have none.
    pub fn stations(&self) -> Result<[[u8; 6]; 2]> {
        Ok([self.near.mac()?, self.far.mac()?])
    }

    /// Who sends, and asks.
    pub fn near(&self) -> End<'_> {
        self.near.end()
    }

    /// Who receives, and answers.
    pub fn far(&self) -> End<'_> {
        self.far.end()
    }

    /// Counts, and takes out, the datagrams of a blast that arrive at the far end.
    ///
    /// # Errors
    /// If the kernel does not take the program.
    pub fn sink(&self) -> Result<Sink> {
        Ok(Sink::attach(&self.far.namespace, &self.far.link, DISCARD)?)
    }

    /// Makes the ends' interfaces what a path needs.
    ///
    /// # Errors
    /// If a driver cannot do so.
    pub fn set_ends(&self, ends: Ends) -> Result<()> {
        for side in [&self.near, &self.far] {
            let tool = side.namespace.ethtool(&side.link)?;
            for (name, wanted) in [("tx", ends.leave_checksums), ("gro", ends.gather)] {
                if tool.is_on(name)? == wanted {
                    continue;
                }
                let set = if wanted { tool.enable(&[name]) } else { tool.disable(&[name]) };
                set.with_context(|| format!("`{name}` of `{}`", side.link))?;
            }
        }
        Ok(())
    }

    /// Waits until a packet has passed in each direction: whoever learns where stations are has
    /// learned it then.
    ///
    /// # Errors
    /// If none does for some seconds.
    pub fn greet(&self) -> Result<()> {
        let socket = |end: End<'_>| end.namespace.run(|| UdpSocket::bind((end.address, 0)));
        let (near, far) = (socket(self.near())??, socket(self.far())??);
        for (from, to) in [(&far, &near), (&near, &far)] {
            to.set_read_timeout(Some(GREETING))?;
            let (start, address) = (Instant::now(), to.local_addr()?);
            let mut byte = [0];
            loop {
                // an end whose interface has just come up may refuse at first
                let _ = from.send_to(&byte, address);
                if to.recv(&mut byte).is_ok() {
                    break;
                }
                ensure!(start.elapsed() < PATIENCE, "no packet passes to {address}");
            }
        }
        Ok(())
    }
}

impl Side {
    fn end(&self) -> End<'_> {
        End { namespace: &self.namespace, address: self.address }
    }

    fn mac(&self) -> Result<[u8; 6]> {
        let link = self.namespace.netlink()?.link(&self.link)?;
        link.mac.with_context(|| format!("`{}` has no MAC address", self.link))
    }

    fn settle(&self) -> Result<()> {
        let net = self.namespace.netlink()?;
        let key = format!("net/ipv6/conf/{}/disable_ipv6", self.link);
        self.namespace.set_sysctl(&key, "1")?;
        net.add_address(&self.link, format!("{}/24", self.address).parse()?)?;
        net.set_up(&self.link)?;
        Ok(())
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let Some(home) = &self.home else { return };
        let moved = self.namespace.netlink().and_then(|net| net.move_to(&self.link, home));
        if let Err(error) = moved {
            eprintln!("`{}` does not come back by itself: {error}", self.link);
        }
    }
}

/// The other end of a veth in the same namespace.
fn peer_of(net: &Netlink, port: &str) -> Result<String> {
    let link = net.link(port)?;
    match link.peer {
        Some(peer) if peer.namespace.is_none() => {
            let Link { name, .. } = net.link_by_index(peer.index)?;
            Ok(name)
        }
        _ => bail!("what `{port}` faces is not known: name it with `--facing`"),
    }
}

const LINK: &str = "eth0";
const PORTS: [&str; 2] = ["port-a", "port-b"];
/// Of the network that is reserved for benchmarks (RFC 2544 appendix C).
const NEAR: &str = "198.18.0.1";
const FAR: &str = "198.18.0.2";
/// How often a greeting is repeated.
const GREETING: Duration = Duration::from_millis(10);
/// How long a path may take to carry packets.
const PATIENCE: Duration = Duration::from_secs(5);
