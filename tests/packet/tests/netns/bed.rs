//! A dataplane in a namespace, with pods around it.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use millrace_abi::{PortKind, Reason};
use millrace_dataplane::control::request::{AddPort, Load};
use millrace_dataplane::control::status::{PortState, PortStatus, StageStatus};
use millrace_dataplane::control::{CacheSettings, Dataplane, PortError, Redecided, Settings};
use millrace_dataplane::port::{Gateway, Hold, Station, Vlans};
use millrace_dataplane::worker::WorkerSettings;
use millrace_fastpath::Features;
use millrace_filter::testing::frames;
use millrace_netns::{Namespace, VethSpec};
use millrace_traffic::End;

/// What of the kernel is used: all that it has, or what all have, by the test program.
pub(crate) fn features() -> Features {
    match env!("CARGO_CRATE_NAME") {
        "featureless" => Features::OFF,
        _ => Features::of_kernel(),
    }
}

/// A host with a dataplane, and pods, each behind a port of the dataplane.
pub(crate) struct Bed {
    pub(crate) plane: Dataplane,
    pub(crate) pods: Vec<Pod>,
    pub(crate) host: Namespace,
}

/// A namespace with one interface.
pub(crate) struct Pod {
    pub(crate) namespace: Namespace,
    pub(crate) address: IpAddr,
    /// The name of its port.
    pub(crate) port: String,
}

impl Bed {
    /// A dataplane with `pods` pods, 10.77.0.1 and so on, and no filters.
    pub(crate) fn new(pods: usize) -> Self {
        Self::with(pods, &Settings::default(), 1)
    }

    /// The same with settings, and veths with `queues` queues.
    pub(crate) fn with(pods: usize, settings: &Settings, queues: u32) -> Self {
        let mut bed = Self::at(Namespace::create_unique("packet-host").expect("root"), settings);
        for n in 1..=pods {
            let pod = Pod::new(&bed.host, n, queues);
            bed.open(&pod.port, Vlans::transparent()).unwrap_or_else(|error| panic!("{error}"));
            bed.pods.push(pod);
        }
        bed
    }

    /// A dataplane in this namespace, without ports.
    pub(crate) fn at(host: Namespace, settings: &Settings) -> Self {
        let plane = host
            .run(|| Dataplane::start(settings))
            .expect("the namespace can be entered")
            .unwrap_or_else(|error| panic!("{error}"));
        Self { plane, pods: Vec::new(), host }
    }

    /// A dataplane with `pods` pods behind cached ports, a worker on each of the first `workers`
    /// cores, and no filters.
    pub(crate) fn cached(pods: usize, workers: usize) -> Self {
        Self::cached_with(pods, workers, CacheSettings::default())
    }

    /// The same with settings of the cache.
    pub(crate) fn cached_with(pods: usize, workers: usize, cache: CacheSettings) -> Self {
        let worker = WorkerSettings { spin: Duration::ZERO, ..WorkerSettings::default() };
        let flow_cache = Some(CacheSettings { features: features(), ..cache });
        let settings = Settings { workers, worker, flow_cache, ..Settings::default() };
        let mut bed = Self::at(Namespace::create_unique("packet-host").expect("root"), &settings);
        for n in 1..=pods {
            let pod = Pod::new(&bed.host, n, 1);
            bed.add_cached(&pod);
            bed.pods.push(pod);
        }
        bed
    }

    /// Makes a pod a cached port.
    pub(crate) fn add_cached(&self, pod: &Pod) {
        self.plane.add_port(cached_port(pod)).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Puts the built-in bridge into the chain.
    pub(crate) fn bridged(self) -> Self {
        self.load(millrace_packet_tests::built_in("bridge", "bridge", "{}"));
        self
    }

    /// Puts a filter into the chain.
    pub(crate) fn load(&self, load: Load) {
        self.plane.load(load).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Makes an interface a port.
    pub(crate) fn open(&self, interface: &str, vlans: Vlans) -> Result<(), PortError> {
        let interface = interface.to_owned();
        let port =
            AddPort { interface, kind: PortKind::Wire, vlans, hold: Hold::Direct, beyond: None };
        self.host.run(|| self.plane.add_port(port)).expect("the namespace can be entered")
    }

    /// What there is to see of a port.
    pub(crate) fn port(&self, name: &str) -> PortStatus {
        let ports = self.plane.ports().expect("the workers are there");
        ports.into_iter().find(|port| port.name == name).expect("it is a port")
    }

    /// Waits until a port is in a state, and returns what there is to see of it.
    pub(crate) fn await_state(&self, name: &str, state: PortState) -> PortStatus {
        self.await_port(name, |port| port.state == state)
    }

    /// Waits until a port is as wanted, and returns what there is to see of it.
    pub(crate) fn await_port(
        &self,
        name: &str,
        wanted: impl Fn(&PortStatus) -> bool,
    ) -> PortStatus {
        await_some(|| {
            let port = self.port(name);
            if wanted(&port) { Ok(port) } else { Err(Box::new(port)) }
        })
    }

    /// What there is to see of a stage.
    pub(crate) fn stage(&self, name: &str) -> StageStatus {
        let stages = self.plane.stages().expect("the workers are there");
        stages.into_iter().find(|stage| stage.name == name).expect("it is in the chain")
    }

    /// How many connections were opened.
    pub(crate) fn opened(&self) -> u64 {
        let cache = self.plane.cache().unwrap_or_else(|error| panic!("{error}"));
        cache.expect("there is a cache").opened
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> u64 {
        let cache = self.plane.cache().unwrap_or_else(|error| panic!("{error}"));
        cache.expect("there is a cache").connections
    }

    /// What became of connections that were decided anew.
    pub(crate) fn redecided(&self) -> Redecided {
        let cache = self.plane.cache().unwrap_or_else(|error| panic!("{error}"));
        cache.expect("there is a cache").redecided
    }

    /// How many packets met a fate in the kernel.
    pub(crate) fn in_kernel(&self, fate: &str) -> u64 {
        let cache = self.plane.cache().unwrap_or_else(|error| panic!("{error}"));
        cache.expect("there is a cache").packets[fate]
    }

    /// How many packets were dropped for a reason.
    pub(crate) fn dropped(&self, reason: Reason) -> u64 {
        let fates = self.plane.fates();
        let because = |label: &Option<_>| label.as_deref() == Some(reason.label());
        fates.iter().filter(|fate| because(&fate.reason)).map(|fate| fate.packets).sum()
    }
}

impl Pod {
    pub(crate) fn new(host: &Namespace, n: usize, queues: u32) -> Self {
        let namespace = Namespace::create_unique("packet-pod").expect("needs root");
        let address: IpAddr = format!("10.77.0.{n}").parse().expect("an address");
        let pod = Self { namespace, address, port: format!("p{n}") };
        pod.plug_into(host, queues);
        pod
    }

    /// Makes the pod's interface, and the host's that leads to it.
    pub(crate) fn plug_into(&self, host: &Namespace, queues: u32) {
        wire(host, &self.port, &self.namespace, self.mac(), queues);
        let net = self.namespace.netlink().expect("netlink works");
        let v4 = format!("{}/24", self.address).parse().expect("a prefix");
        let v6 = format!("{}/64", self.v6()).parse().expect("a prefix");
        net.set_up("eth0").expect("it comes up");
        net.add_address("eth0", v4).expect("it is free");
        net.add_address("eth0", v6).expect("it is free");
    }

    /// The address of its interface, which stays when that is made again: others remember it.
    pub(crate) fn mac(&self) -> [u8; 6] {
        frames::mac(self.address).0
    }

    /// It as an end of traffic.
    pub(crate) fn end(&self) -> End<'_> {
        End { namespace: &self.namespace, address: self.address }
    }

    /// It as an end of IPv6 traffic.
    pub(crate) fn end_v6(&self) -> End<'_> {
        End { namespace: &self.namespace, address: self.v6() }
    }

    pub(crate) fn v6(&self) -> IpAddr {
        let IpAddr::V4(v4) = self.address else { unreachable!("pods have IPv4 addresses first") };
        format!("fd77::{}", v4.octets()[3]).parse().expect("an address")
    }

    /// Whether one ping gets an answer.
    pub(crate) fn pings(&self, to: IpAddr) -> bool {
        self.pings_within(to, PATIENCE)
    }

    /// Whether one ping gets an answer so soon.
    pub(crate) fn pings_within(&self, to: IpAddr, patience: Duration) -> bool {
        let mut ping = self.namespace.command("ping");
        let patience = patience.as_secs().to_string();
        let output = ping.args(["-n", "-c", "1", "-W", &patience]).arg(to.to_string()).output();
        output.expect("ping can be run").status.success()
    }

    /// Whether one ping with so many bytes gets an answer.
    pub(crate) fn pings_with(&self, to: IpAddr, bytes: usize) -> bool {
        let mut ping = self.namespace.command("ping");
        let (patience, bytes) = (PATIENCE.as_secs().to_string(), bytes.to_string());
        let output = ping.args(["-n", "-c", "1", "-W", &patience, "-s", &bytes]);
        output.arg(to.to_string()).output().expect("ping can be run").status.success()
    }

    pub(crate) fn udp(&self) -> UdpSocket {
        self.udp_at(0)
    }

    pub(crate) fn udp_at(&self, port: u16) -> UdpSocket {
        let address = SocketAddr::new(self.address, port);
        let socket = self.namespace.run(|| UdpSocket::bind(address)).expect("it can be entered");
        let socket = socket.expect("the port is free");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        socket
    }

    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        let address = SocketAddr::new(self.address, port);
        let listener = self.namespace.run(|| TcpListener::bind(address)).expect("can be entered");
        listener.expect("the port is free")
    }

    pub(crate) fn connect(&self, to: &Pod, port: u16) -> std::io::Result<TcpStream> {
        let address = SocketAddr::new(to.address, port);
        self.namespace
            .run(|| TcpStream::connect_timeout(&address, Duration::from_secs(10)))
            .expect("it can be entered")
    }

    /// Sends all of `data` to another pod's address by TCP, and is thanked for it.
    pub(crate) fn talks_to(&self, server: &Pod, to: IpAddr, data: &[u8]) {
        let listener = server.namespace.run(|| TcpListener::bind((to, 0)));
        let listener = listener.expect("it can be entered").expect("the port is free");
        let address = listener.local_addr().expect("it is bound");
        let expected = data.to_vec();
        let receiver = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody connects");
            let mut received = Vec::new();
            stream.read_to_end(&mut received).expect("the stream ends");
            stream.write_all(b"thanks").expect("the client is there");
            received
        });
        let stream = self.namespace.run(|| TcpStream::connect(address));
        let mut stream = stream.expect("it can be entered").expect("the server listens");
        stream.write_all(data).expect("the server reads");
        stream.shutdown(Shutdown::Write).expect("it is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers");
        assert_eq!(answer, "thanks");
        assert!(receiver.join().expect("it does not panic") == expected, "every byte arrived");
    }
}

/// A pod's cached port.
pub(crate) fn cached_port(pod: &Pod) -> AddPort {
    let gateway =
        Gateway { mac: GATEWAY, v4: "10.77.0.254".parse().ok(), v6: "fd77::fe".parse().ok() };
    AddPort {
        interface: pod.port.clone(),
        kind: PortKind::Pod,
        vlans: Vlans::access(0),
        hold: Hold::Cached(Station { mac: pod.mac(), gateway }),
        beyond: None,
    }
}

/// Wires the interface `port` of the host to `eth0` of another namespace.
pub(crate) fn wire(host: &Namespace, port: &str, namespace: &Namespace, mac: [u8; 6], queues: u32) {
    let net = host.netlink().expect("netlink works");
    let veth = VethSpec::new(port, "eth0").peer_namespace(namespace).peer_mac(mac).queues(queues);
    net.add_veth(&veth).expect("a veth can be made");
    host.set_sysctl(&format!("net.ipv6.conf.{port}.disable_ipv6"), "1").expect("it is there");
    net.set_up(port).expect("it comes up");
}

/// Asks until there is what is wanted; what there was last fails the test after some seconds.
pub(crate) fn await_some<T, E: std::fmt::Debug>(mut ask: impl FnMut() -> Result<T, E>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(found) => return found,
            Err(last) => assert!(Instant::now() < give_up, "{last:?}"),
        }
        thread::yield_now();
    }
}

/// The address that pods know the dataplane by.
pub(crate) const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
