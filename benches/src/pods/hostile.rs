//! A pod scans another one, as fast as it can: do its neighbours notice?
//!
//! Every datagram of it goes to another port, and is the first of a flow. Who sends so much is busy,
//! and shares caches of the processor and memory with the neighbours, whoever carries packets. So a
//! double of it takes turns with it, which sends the same to a link that nobody is behind.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace_dataplane::control::{CacheSettings, Dataplane};
use millrace_fastpath::MissLimit;
use millrace_netns::{Namespace, Neighbour, NeighbourState, VethSpec};
use millrace_traffic::exchange::Over;
use millrace_traffic::sink::Sink;
use millrace_traffic::{Core, End};

use super::POD_LINK;
use super::peer::{self, Pod, Workers};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::promise::Promise;
use crate::samples::{Samples, in_turns};
use crate::traffic::{Lanes, Measure, Places, Quantity, Spot};
use crate::unit::Unit;
use crate::veth::ground::{Ends, Ground};

/// Others hardly notice.
pub const OTHERS: Promise = Promise::at_least(
    "new connections and round trips of pods beside one that scans, against those beside one that sends to nobody",
    0.9,
    Unit::Ratio,
);

/// Measures two pods beside a third.
///
/// # Errors
/// If the pods cannot be had, or packets do not pass.
pub fn run(plan: &Plan, outcome: &mut Outcome) -> Result<()> {
    let places = Places::available()?;
    let node = Node::new(&plan.cache, places)?;
    let time = plan.much(Duration::from_millis(600), Duration::from_millis(150));
    let mut samples = Samples::default();
    let mut scanned = 0;
    for measure in [Measure::Connect(Lanes::One), Measure::Exchange(Over::Udp)] {
        for run in 0..plan.runs(15, 6) {
            for &beside in in_turns(&Beside::ALL, run) {
                let before = node.refused()?;
                for (quantity, value) in node.sample(measure, beside, places, time)? {
                    samples.note((quantity, beside), value);
                }
                match beside {
                    Beside::Scan => scanned += node.refused()? - before,
                    _ => ensure!(node.refused()? == before, "somebody else sends too much"),
                }
            }
        }
    }
    ensure!(scanned > 0, "the scan was not too much for its port");
    for ((quantity, beside), found) in samples.iter() {
        let what = format!("{}, beside {}", quantity.label(), beside.label());
        outcome.sampled(&what, "millrace", quantity.unit(), found);
    }
    for (quantity, above, below) in [
        (Quantity::Connections(Lanes::One), Beside::Scan, Beside::Double),
        // what takes longer is the worse one
        (Quantity::RoundTripMedian(Over::Udp), Beside::Double, Beside::Scan),
    ] {
        if let Some(ratio) = samples.ratio(&(quantity, above), &(quantity, below)) {
            let what = format!("{}, {} / {}", quantity.label(), above.label(), below.label());
            outcome.held(what, &OTHERS, ratio);
        }
    }
    outcome.notes.push(format!(
        "The pods that are measured are on core {}, who scans and its double on core {}. The scan \
         came to {scanned} packets more than its port may have missed.",
        places.near.number(),
        places.apart.number(),
    ));
    Ok(())
}

/// What else happens while pods are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Beside {
    /// A pod scans.
    Scan,
    /// Somebody sends the same to nobody.
    Double,
    /// Nothing.
    Rest,
}

impl Beside {
    const ALL: [Self; 3] = [Self::Scan, Self::Double, Self::Rest];

    fn label(self) -> &'static str {
        match self {
            Self::Scan => "a scan",
            Self::Double => "one to nobody",
            Self::Rest => "nothing",
        }
    }
}

/// Two pods that are measured, one that scans, and its double.
struct Node {
    // before the namespaces it is in
    plane: Dataplane,
    sink: Sink,
    ground: Ground,
    scan: Namespace,
    double: Namespace,
}

impl Node {
    fn new(cache: &Path, places: Places) -> Result<Self> {
        let ground = Ground::new(None)?;
        let scan = sender(&ground, SCAN)?;
        let double = sender(&ground, NOBODY)?;
        let settings = CacheSettings { miss_limit: Some(LIMIT), ..CacheSettings::default() };
        let plane = peer::without_filters(&ground, cache, Workers::Everywhere, places, settings)?;
        let hostile = Pod { port: SCAN, end: End { namespace: &scan, address: ADDRESS } };
        peer::hold(&plane, hostile)?;
        let pods = peer::pods(&ground).into_iter().chain([hostile]);
        plane.load(peer::bridge_of(pods, &plane)?)?;
        ground.set_ends(Ends::USUAL)?;
        ground.greet()?;
        Ok(Self { plane, sink: ground.sink()?, ground, scan, double })
    }

    fn sample(
        &self,
        measure: Measure,
        beside: Beside,
        places: Places,
        time: Duration,
    ) -> Result<Vec<(Quantity, f64)>> {
        let ends = [self.ground.near(), self.ground.far()];
        let spot = Spot::between(ends, &self.sink, places, time);
        let from = match beside {
            Beside::Scan => &self.scan,
            Beside::Double => &self.double,
            Beside::Rest => return measure.sample(&spot),
        };
        let target = self.ground.far().address;
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let scanning = scope.spawn(|| scan(from, target, places.apart, &over));
            let found = measure.sample(&spot);
            over.store(true, Ordering::Release);
            scanning.join().expect("scanning does not panic")?;
            found
        })
    }

    /// Packets that were more than their port may have missed.
    fn refused(&self) -> Result<u64> {
        let cache = self.plane.cache()?.context("there is a cache")?;
        Ok(cache.packets["drop-limit"])
    }
}

/// A namespace like a pod's, whose other end in the host has this name.
fn sender(ground: &Ground, port: &str) -> Result<Namespace> {
    let namespace = Namespace::create_unique("bench-scan")?;
    let host = ground.host().netlink()?;
    host.add_veth(&VethSpec::new(port, POD_LINK).peer_namespace(&namespace))?;
    // nothing but the scan
    for (place, link) in [(ground.host(), port), (&namespace, POD_LINK)] {
        place.set_sysctl(&format!("net/ipv6/conf/{link}/disable_ipv6"), "1")?;
        place.netlink()?.set_up(link)?;
    }
    let net = namespace.netlink()?;
    net.add_address(POD_LINK, format!("{ADDRESS}/24").parse()?)?;
    // nobody answers for it behind a link that leads nowhere
    let [_, far] = ground.stations()?;
    net.add_neighbour(&Neighbour {
        link: POD_LINK.to_owned(),
        address: ground.far().address,
        mac: Some(far),
        state: NeighbourState::Permanent,
    })?;
    Ok(namespace)
}

/// Sends to one port after the other until it is over, from so many sockets that no flow comes again
/// while it may be known.
fn scan(from: &Namespace, target: IpAddr, core: Core, over: &AtomicBool) -> Result<()> {
    let _core = core.keep();
    let bind = || UdpSocket::bind((ADDRESS, 0));
    let sockets = from.run(|| (0..SOCKETS).map(|_| bind()).collect::<io::Result<Vec<_>>>())??;
    let everywhere =
        sockets.iter().flat_map(|socket| (1..=u16::MAX).map(move |port| (socket, port)));
    for (socket, port) in everywhere.cycle() {
        if over.load(Ordering::Acquire) {
            break;
        }
        // whether it arrives is the question
        let _ = socket.send_to(b"anybody?", SocketAddr::new(target, port));
    }
    Ok(())
}

/// What a pod may miss, as `millrace node` has it.
const LIMIT: MissLimit = MissLimit { every: Duration::from_micros(20), burst: 1024 };
/// The port of who scans.
const SCAN: &str = "port-c";
/// Of its double, in the host, which has no use for it.
const NOBODY: &str = "nobody";
/// Of both.
const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 18, 0, 3));
/// From which are scanned: a million flows.
const SOCKETS: usize = 16;
