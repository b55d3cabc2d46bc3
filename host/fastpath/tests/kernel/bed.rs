//! A host with two pods and a punt pair, and the cache on both pods' ports.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_fastpath::{
    Capacity, Counter, Egress, Features, FlowCache, Forward, Hop, Key, PortId, Protocol, Settings,
    Verdict,
};
use millrace_netns::{Namespace, NamespaceError, Neighbour, Netlink, VethSpec};

use crate::edges::{PuntEnd, Wire};

/// The pods, by their place.
pub(crate) const PODS: [&str; 2] = ["pod0", "pod1"];
/// What pods take for everybody's address, and nobody has.
pub(crate) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

pub(crate) struct Bed {
    pub(crate) host: Namespace,
    pub(crate) pods: [Namespace; 2],
    pub(crate) settings: Settings,
    far: Namespace,
}

impl Bed {
    /// `None` without the privilege to make namespaces, unless `CI` is set.
    pub(crate) fn new(features: Features) -> Option<Self> {
        let bed = Self {
            host: namespace("fast-host")?,
            pods: [namespace("fast-pod")?, namespace("fast-pod")?],
            settings: Settings { capacity: Capacity(1024), features },
            far: namespace("fast-far")?,
        };
        let net = bed.host.netlink().unwrap();
        for (at, pod) in bed.pods.iter().enumerate() {
            let spec = VethSpec::new(PODS[at], "eth0").peer_namespace(pod);
            net.add_veth(&spec.peer_mac(mac(at))).unwrap();
            net.set_up(PODS[at]).unwrap();
            // a connection that is lost fails the test soon
            pod.set_sysctl("net.ipv4.tcp_syn_retries", "3").unwrap();
            let net = pod.netlink().unwrap();
            net.set_up("lo").unwrap();
            net.set_up("eth0").unwrap();
            for (family, prefix) in [(4, "24"), (6, "64")] {
                let own = format!("{}/{prefix}", ip(at, family));
                net.add_address("eth0", own.parse().unwrap()).unwrap();
                let other = Neighbour::permanent("eth0", ip(1 - at, family), GATEWAY_MAC);
                net.add_neighbour(&other).unwrap();
            }
        }
        let punt = VethSpec::new("punt0", "punt1").peer_namespace(&bed.far).queues(2);
        net.add_veth(&punt).unwrap();
        let ends = [(&bed.host, "punt0"), (&bed.far, "punt1")];
        for (namespace, end) in ends {
            namespace.set_sysctl(&format!("net.ipv6.conf.{end}.disable_ipv6"), "1").unwrap();
            // or the tag stays beside the packet, and XDP does not see it
            let features = ["tx", "txvlan", "tx-vlan-stag-hw-insert"];
            namespace.ethtool(end).unwrap().disable(&features).unwrap();
            namespace.netlink().unwrap().set_up(end).unwrap();
        }
        Some(bed)
    }

    /// Runs `test` on the host, with the cache on both ports.
    pub(crate) fn run(&self, test: impl FnOnce(FlowCache, PuntEnd) + Send) {
        let work = || {
            let punt_end = self.punt_end();
            test(self.cache(), punt_end);
        };
        self.host.run(work).unwrap();
    }

    /// What a worker receives frames by.
    pub(crate) fn punt_end(&self) -> PuntEnd {
        self.far.run(|| PuntEnd::attach("punt1")).unwrap()
    }

    /// What a worker sends frames by.
    pub(crate) fn wire(&self) -> Wire {
        self.far.run(|| Wire::open("punt1")).unwrap()
    }

    /// One more cache on both ports.
    pub(crate) fn cache(&self) -> FlowCache {
        let mut cache = FlowCache::load(self.settings).unwrap();
        cache.punt_to(index("punt0"), 2).unwrap();
        for at in 0..2 {
            attach(&mut cache, at);
        }
        cache
    }

    /// A UDP socket of a pod.
    pub(crate) fn udp(&self, at: usize, family: u8, port: u16) -> UdpSocket {
        let address = SocketAddr::new(ip(at, family), port);
        let socket = self.pods[at].run(|| UdpSocket::bind(address)).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket
    }

    /// Connects a port of pod 0 to one of pod 1.
    pub(crate) fn tcp(&self, family: u8, client: u16, server: u16) -> (TcpStream, TcpStream) {
        let listener = self.listen(family, server);
        let stream = tcp_client(self, client, listener.local_addr().unwrap());
        (stream, listener.accept().unwrap().0)
    }

    /// A port of pod 1 that accepts connections.
    pub(crate) fn listen(&self, family: u8, server: u16) -> TcpListener {
        let bind = || TcpListener::bind(SocketAddr::new(ip(1, family), server));
        self.pods[1].run(bind).unwrap().unwrap()
    }
}

/// Connects a port of pod 0 to where somebody accepts.
pub(crate) fn tcp_client(bed: &Bed, client: u16, server: SocketAddr) -> TcpStream {
    let family = if server.is_ipv4() { 4 } else { 6 };
    let client = SocketAddr::new(ip(0, family), client);
    bed.pods[0].run(|| connect(client, server)).unwrap()
}

/// Makes the link to pod `at` a port.
pub(crate) fn attach(cache: &mut FlowCache, at: usize) {
    let link = index(PODS[at]);
    cache.attach(link, port(at), Egress::Peer(link)).unwrap();
}

/// Says when it is dropped that a thread is to end: also if the test fails before.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The index of a link of this thread's namespace.
pub(crate) fn index(link: &str) -> u32 {
    Netlink::host().and_then(|net| net.link(link)).unwrap().index
}

pub(crate) fn port(at: usize) -> PortId {
    PortId::new(101 + at as u16).unwrap()
}

pub(crate) fn mac(at: usize) -> [u8; 6] {
    [2, 0, 0, 0, 1, at as u8]
}

pub(crate) fn ip(at: usize, family: u8) -> IpAddr {
    let text = if family == 4 { "10.8.0." } else { "fd08::" };
    format!("{text}{}", at + 1).parse().unwrap()
}

/// The key of what pod `at` sends to the other.
pub(crate) fn key(at: usize, family: u8, protocol: Protocol, from: u16, to: u16) -> Key {
    let source = SocketAddr::new(ip(at, family), from);
    Key::new(port(at), protocol, source, SocketAddr::new(ip(1 - at, family), to)).unwrap()
}

/// To the other pod than `at`.
pub(crate) fn way(at: usize) -> Forward {
    Forward {
        egress: Egress::Peer(index(PODS[1 - at])),
        destination_mac: mac(1 - at),
        source_mac: GATEWAY_MAC,
        mtu: 1500,
        hop: Hop::Bridged,
        translation: None,
    }
}

/// Entries for both directions between a port of pod 0 and one of pod 1.
pub(crate) fn join(cache: &mut FlowCache, family: u8, protocol: Protocol, ports: [u16; 2]) {
    for at in 0..2 {
        let key = key(at, family, protocol, ports[at], ports[1 - at]);
        cache.insert(&key, &Verdict::Forward(way(at))).unwrap();
    }
}

/// Runs a test with what the kernel has, and with nothing of it.
pub(crate) fn with_and_without_features(test: impl Fn(Bed)) {
    for features in [Features::of_kernel(), Features::OFF] {
        let Some(bed) = Bed::new(features) else { return };
        test(bed);
    }
}

/// How many packets met each fate.
pub(crate) fn counts(cache: &FlowCache) -> Vec<(Counter, u64)> {
    Counter::ALL.map(|counter| (counter, cache.count(counter).unwrap())).to_vec()
}

/// Sends so many bytes from one end to the other.
pub(crate) fn stream(mut from: &TcpStream, mut to: &TcpStream, length: usize) {
    from.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
    to.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || from.write_all(&vec![7; length]).unwrap());
        let mut bytes = vec![0; length];
        to.read_exact(&mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 7));
    });
}

/// `None` without the privilege to make one, unless `CI` is set.
pub(crate) fn namespace(tag: &str) -> Option<Namespace> {
    match Namespace::create_unique(tag) {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            None
        }
        outcome => Some(outcome.unwrap()),
    }
}

fn connect(from: SocketAddr, to: SocketAddr) -> TcpStream {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None).unwrap();
    bind(&socket, &from).unwrap();
    connect(&socket, &to).unwrap();
    socket.into()
}
