//! Pods behind a dataplane whose connections outlive it.

use std::cell::Cell;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use millrace_dataplane::connections::{self, Timeouts};
use millrace_dataplane::control::{CacheSettings, Dataplane, PortError, Settings, Which};
use millrace_dataplane::worker::WorkerSettings;
use millrace_netns::{Namespace, Neighbour, Route, unique_name};
use millrace_packet_tests::built_in;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use super::plain::{Plain, Socket};
use crate::bed::{GATEWAY, Pod, cached_port, features};
use crate::translation;

/// The dataplane, the pods and their sockets.
pub(super) struct Node {
    /// Nothing only while one follows another.
    plane: Option<Dataplane>,
    settings: Settings,
    host: Namespace,
    pods: Vec<Pod>,
    sockets: Vec<(Socket, UdpSocket)>,
    /// Where pods hear that what was sent before is behind the worker.
    bells: Vec<UdpSocket>,
    /// Datagrams sent, and bells rung.
    sent: Cell<u32>,
    rung: Cell<u16>,
    _compiled: tempfile::TempDir,
    _files: BpfFiles,
}

/// A BPF file system of its own.
struct BpfFiles(PathBuf);

impl Node {
    /// All pods have ports, and rules are as [`Plain::new`] has them.
    pub(super) fn new() -> Self {
        let files = BpfFiles::mount();
        let compiled = tempfile::tempdir().expect("a folder");
        let forever = Duration::from_secs(24 * 60 * 60);
        let timeouts = Timeouts { unreplied: forever, replied: forever, ..Timeouts::default() };
        let connections = connections::Settings { timeouts, ..connections::Settings::default() };
        let pins = Some(files.0.join("cache"));
        // one queue: what is sent later is behind what was sent before
        let settings = Settings {
            workers: 1,
            worker: WorkerSettings { spin: Duration::ZERO, ..WorkerSettings::default() },
            cache: Some(compiled.path().to_owned()),
            flow_cache: Some(CacheSettings {
                connections,
                features: features(),
                pins,
                ..CacheSettings::default()
            }),
            ..Settings::default()
        };
        let host = Namespace::create_unique("packet-host").expect("root");
        let pods: Vec<_> = (1..=PODS).map(|n| Pod::new(&host, n, 1)).collect();
        pods.iter().for_each(|pod| knows_all(pod, &pods));
        let open = |socket: Socket| (socket, bind(&pods[socket.pod], socket.address));
        let sockets = Socket::all().map(open).collect();
        let bell = |pod: &Pod| bind(pod, SocketAddr::new(pod.address, BELL));
        let bells = pods.iter().map(bell).collect();
        let mut this = Self {
            plane: None,
            settings,
            host,
            pods,
            sockets,
            bells,
            sent: Cell::new(0),
            rung: Cell::new(0),
            _compiled: compiled,
            _files: files,
        };
        this.restart(&Plain::new());
        this
    }

    /// The dataplane ends, if there is one, and another comes.
    pub(super) fn restart(&mut self, plain: &Plain) {
        drop(self.plane.take());
        let next = self.start(plain);
        let nobody = || Ok::<_, PortError>(());
        next.take_over(nobody).unwrap_or_else(|error| panic!("{error}"));
        self.plane = Some(next);
        self.settle();
    }

    /// Another dataplane takes over.
    pub(super) fn upgrade(&mut self, plain: &Plain) {
        let before = self.plane.take().expect("there is one");
        before.leave();
        let next = self.start(plain);
        next.take_over(|| before.drain()).unwrap_or_else(|error| panic!("{error}"));
        self.plane = Some(next);
        self.settle();
    }

    fn start(&self, plain: &Plain) -> Dataplane {
        let settings = &self.settings;
        let start = || Dataplane::start(settings).unwrap_or_else(|error| panic!("{error}"));
        let plane = self.host.run(start).expect("the namespace can be entered");
        for (pod, _) in self.pods.iter().enumerate().filter(|(pod, _)| plain.is_there(*pod)) {
            self.add(&plane, pod);
        }
        let configs = self.configs(&plane, plain);
        for (name, config) in STAGES.into_iter().zip(configs) {
            plane.load(built_in(name, name, &config)).unwrap_or_else(|error| panic!("{error}"));
        }
        plane
    }

    fn add(&self, plane: &Dataplane, pod: usize) {
        let port = cached_port(&self.pods[pod]);
        plane.add_port(port).unwrap_or_else(|error| panic!("{error}"));
    }

    fn plane(&self) -> &Dataplane {
        self.plane.as_ref().expect("there is one")
    }

    /// Has the port of a pod go, unless it is `back`, whose port comes.
    pub(super) fn move_port(&self, back: Option<usize>, pod: usize) {
        if let Some(back) = back {
            self.add(self.plane(), back);
        }
        if back != Some(pod) {
            let gone = self.plane().remove_port(&self.pods[pod].port);
            gone.unwrap_or_else(|error| panic!("{error}"));
        }
    }

    /// Has filters know the rules as they are.
    pub(super) fn change(&self, plain: &Plain) {
        let configs = self.configs(self.plane(), plain);
        for (name, config) in STAGES.into_iter().zip(configs) {
            let outcome = self.plane().configure(name, &config);
            outcome.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        self.settle();
    }

    /// Puts the module of a stage there again.
    pub(super) fn swap(&self, stage: &str) {
        let module = millrace_builtin::find(stage).expect("it is built in").bytes;
        self.plane().swap(stage, module, None).unwrap_or_else(|error| panic!("{error}"));
        self.settle();
    }

    /// Returns when what there is of connections follows what filters know.
    fn settle(&self) {
        self.plane().redecide(&Which::All);
    }

    /// What the stages are to know.
    fn configs(&self, plane: &Dataplane, plain: &Plain) -> [String; 4] {
        let numbers = plane.numbers();
        let there = || (0..PODS).filter(|pod| plain.is_there(*pod));
        let nat = (0..2).flat_map(|family| {
            let server = addresses(plain.points_to)[family];
            [(1, ""), (2, r#", "masquerade": true"#)].map(|(n, source)| {
                let to = virtual_address(n)[family];
                format!(
                    r#"{{"to": "{to}/{}", "port": {ASKED}, "new_destination": "{server}",
                         "new_port": {SERVER_PORT}{source}}}"#,
                    LENGTHS[family]
                )
            })
        });
        let denied = plain.denied.into_iter().flat_map(|client| {
            (0..2).flat_map(move |family| {
                let from = addresses(client)[family];
                // bells are nobody's business
                [ASKED, SERVER_PORT].map(|port| {
                    format!(r#"{{"from": "{from}/{}", "port": {port}}}"#, LENGTHS[family])
                })
            })
        });
        let pods = there().map(|pod| {
            let number = numbers[&self.pods[pod].port];
            let mac = self.pods[pod].mac().map(|byte| format!("{byte:02x}")).join(":");
            let [v4, v6] = addresses(pod);
            format!(r#"{{"port": {number}, "mac": "{mac}", "addresses": ["{v4}", "{v6}"]}}"#)
        });
        let routes = there().flat_map(|pod| {
            let number = numbers[&self.pods[pod].port];
            let to = |(address, length): (IpAddr, u8)| {
                format!(r#"{{"prefix": "{address}/{length}", "via": [{{"port": {number}}}]}}"#)
            };
            addresses(pod).into_iter().zip(LENGTHS).map(to).collect::<Vec<_>>()
        });
        let list = |rules: &mut dyn Iterator<Item = String>| rules.collect::<Vec<_>>().join(", ");
        let (nat, denied) = (list(&mut { nat }), list(&mut { denied }));
        let (pods, routes) = (list(&mut { pods }), list(&mut { routes }));
        let [v4, v6] = GATEWAYS;
        [
            format!(r#"{{"rules": [{nat}]}}"#),
            format!(r#"{{"rules": [{denied}]}}"#),
            format!(
                r#"{{"gateway": {{"mac": "{GATEWAY_MAC}", "addresses": ["{v4}", "{v6}"]}},
                     "pods": [{pods}]}}"#
            ),
            format!(r#"{{"gatewayMac": "{GATEWAY_MAC}", "routes": [{routes}]}}"#),
        ]
    }

    /// Sends a datagram, and says which it is.
    pub(super) fn send(&self, from: Socket, to: SocketAddr) -> u32 {
        self.sent.set(self.sent.get() + 1);
        let sent = self.socket(from).send_to(&self.sent.get().to_be_bytes(), to);
        sent.expect("there is a route, and a neighbour");
        self.sent.get()
    }

    /// The next datagram of a socket, and whom it is from.
    pub(super) fn receive(&self, at: Socket) -> (u32, SocketAddr) {
        let mut bytes = [0; 4];
        let (_, source) = self.socket(at).recv_from(&mut bytes).expect("it arrives");
        (u32::from_be_bytes(bytes), source)
    }

    /// Datagrams that nobody has received.
    pub(super) fn strays(&self) -> Vec<(Socket, u32, SocketAddr)> {
        let mut strays = Vec::new();
        for (at, socket) in &self.sockets {
            socket.set_nonblocking(true).expect("it can be");
            let mut bytes = [0; 4];
            loop {
                match socket.recv_from(&mut bytes) {
                    Ok((_, source)) => strays.push((*at, u32::from_be_bytes(bytes), source)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{at:?}: {error}"),
                }
            }
            socket.set_nonblocking(false).expect("it can be");
        }
        strays
    }

    /// Returns when what a pod has sent so far is behind the worker.
    pub(super) fn await_behind(&self, from: usize, plain: &Plain) {
        let to = (0..PODS).find(|pod| *pod != from && plain.is_there(*pod));
        let to = to.expect("one pod at most is away");
        self.rung.set(self.rung.get() + 1);
        let rope = SocketAddr::new(self.pods[from].address, BELL + self.rung.get());
        let bell = SocketAddr::new(self.pods[to].address, BELL);
        bind(&self.pods[from], rope).send_to(b"!", bell).expect("there is a neighbour");
        let (_, source) = self.bells[to].recv_from(&mut [0]).expect("the bell is heard");
        assert_eq!(source, rope);
    }

    fn socket(&self, which: Socket) -> &UdpSocket {
        let found = self.sockets.iter().find(|(socket, _)| *socket == which);
        &found.expect("all are open").1
    }
}

impl BpfFiles {
    fn mount() -> Self {
        let folder = std::env::temp_dir().join(unique_name("bpffs"));
        std::fs::create_dir(&folder).expect("the name is unique");
        mount("bpf", &folder, "bpf", MountFlags::empty(), None).expect("root");
        Self(folder)
    }
}

impl Drop for BpfFiles {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).expect("it is mounted");
        std::fs::remove_dir(&self.0).expect("it is empty");
    }
}

/// Has a pod know the gateway and the others: asking for them would be packets of its own.
fn knows_all(pod: &Pod, all: &[Pod]) {
    let net = pod.namespace.netlink().expect("netlink works");
    let know = |address: IpAddr, mac: [u8; 6]| {
        let neighbour = Neighbour::permanent("eth0", address, mac);
        net.add_neighbour(&neighbour).expect("it is not known");
    };
    for (everywhere, gateway) in ["0.0.0.0/0", "::/0"].into_iter().zip(GATEWAYS) {
        let gateway = gateway.parse().expect("an address");
        know(gateway, GATEWAY);
        let everywhere = everywhere.parse().expect("a prefix");
        net.add_route(&Route::to(everywhere).via(gateway)).expect("the gateway is on the link");
    }
    for other in all.iter().filter(|other| other.address != pod.address) {
        know(other.address, other.mac());
        know(other.v6(), other.mac());
    }
}

fn bind(pod: &Pod, address: SocketAddr) -> UdpSocket {
    translation::udp(pod, address.ip(), address.port())
}

/// A virtual address in both families.
pub(super) fn virtual_address(n: u8) -> [IpAddr; 2] {
    translation::virtual_address(n)
}

/// The addresses of a pod.
pub(super) fn addresses(pod: usize) -> [IpAddr; 2] {
    let n = pod + 1;
    [format!("10.77.0.{n}"), format!("fd77::{n}")].map(|text| text.parse().expect("an address"))
}

/// The stages of the chain.
pub(super) const STAGES: [&str; 4] = ["static-nat", "deny-list", "bridge", "router"];
pub(super) const GATEWAYS: [&str; 2] = ["10.77.0.254", "fd77::fe"];
/// The pods that ask.
pub(super) const CLIENTS: Range<usize> = 0..2;
/// The pods that answer.
pub(super) const SERVERS: Range<usize> = 2..4;
pub(super) const PODS: usize = 4;
/// The port that virtual addresses are asked at.
pub(super) const ASKED: u16 = 53;
/// The port where servers hear.
pub(super) const SERVER_PORT: u16 = 5353;
/// The first port of clients.
pub(super) const CLIENT_PORT: u16 = 4000;
const GATEWAY_MAC: &str = "02:00:00:00:00:fe";
const BELL: u16 = 20_000;
const LENGTHS: [u8; 2] = [32, 128];
