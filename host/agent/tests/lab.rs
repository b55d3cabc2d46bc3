//! `millrace lab` with this program as the nodes' agent. Needs root; without it the tests print a
//! note and pass, except under `CI`.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use millrace_filter::testing::capture;
use millrace_netns::{Namespace, NamespaceError, unique_name};
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::Value;

/// A lab, which is taken down when this is dropped.
struct Bed {
    name: String,
    manifests: tempfile::TempDir,
}

impl Bed {
    /// Brings up the cluster of the example, unless there are no privileges to.
    fn up() -> Option<Self> {
        Self::up_as(&[])
    }

    /// The same, made another way.
    fn up_as(arguments: &[&str]) -> Option<Self> {
        Self::of(PODS, arguments)
    }

    /// The same with other pods.
    fn of(pods: &str, arguments: &[&str]) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let bed = Self::down();
        for (file, text) in [("nodes.yaml", NODES), ("pods.yaml", pods)] {
            fs::write(bed.manifests.path().join(file), text).expect("the folder is there");
        }
        let manifests = bed.manifests.path().display().to_string();
        bed.done(&[&["up", &manifests], arguments].concat());
        Some(bed)
    }

    fn down() -> Self {
        Self { name: unique_name("t"), manifests: tempfile::tempdir().expect("a folder") }
    }

    fn lab(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(MILLRACE);
        command.arg("lab").args(arguments).env("MILLRACE_LAB", &self.name);
        command.output().expect("the program is there")
    }

    /// What a command of `millrace lab` prints, which is to succeed.
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.lab(arguments);
        let errors = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {}{errors}", text(&output.stdout));
        assert_eq!(errors, "", "{arguments:?}");
        text(&output.stdout)
    }

    /// A command of a node that goes on by itself.
    fn begun(&self, node: &str, arguments: &[&str]) -> Child {
        let mut command = Command::new(MILLRACE);
        command.args(["lab", "exec", &format!("node:{node}"), "--", MILLRACE]).args(arguments);
        command.env("MILLRACE_LAB", &self.name).stdout(Stdio::piped());
        command.spawn().expect("the program is there")
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.done(&["status", "-o", "json"])).expect("it is JSON")
    }

    /// What a node's agent answers.
    fn asked(&self, node: &str, arguments: &[&str]) -> Value {
        let place = format!("node:{node}");
        let words = [&["exec", &*place, "--", MILLRACE], arguments, &["-o", "json"]].concat();
        serde_json::from_str(&self.done(&words)).expect("it is JSON")
    }

    /// What a node's agent knows of a pod's connection, once the kernel has both directions.
    fn flow(&self, node: &str, stream: &TcpStream) -> Value {
        let client = stream.local_addr().expect("it is connected");
        until(|| {
            let flows = self.asked(node, &["flows"]);
            let ours = |flow: &&Value| {
                flow["original"]["source"] == client.to_string() && flow["protocol"] == "tcp"
            };
            let flow = flows["flows"].as_array()?.iter().find(ours)?.clone();
            let both = ["original", "reply"];
            both.iter().all(|way| flow[way]["generation"].is_u64()).then_some(flow)
        })
    }

    /// The network of the host outside.
    fn outside(&self) -> Namespace {
        let state = self.state();
        let namespace = state["outside"]["namespace"].as_str().expect("it has a namespace");
        Namespace::open(namespace).expect("it is there")
    }

    /// A pod's network, and its addresses.
    fn pod(&self, name: &str) -> (Namespace, Vec<IpAddr>) {
        let state = self.state();
        let pods = state["pods"].as_array().expect("there are pods");
        let pod = pods.iter().find(|it| it["name"] == format!("default/{name}"));
        let pod = pod.unwrap_or_else(|| panic!("{name} is not among {state:#}"));
        let addresses = serde_json::from_value(pod["addresses"].clone()).expect("addresses");
        let namespace = pod["namespace"].as_str().expect("it has a namespace");
        (Namespace::open(namespace).expect("it is there"), addresses)
    }

    /// How much the interface of a pod takes, as the kernel's procfs has it: `ip link` asks after
    /// every named namespace of the machine, and complains of one that is just being made.
    fn mtu(&self, pod: &str) -> u32 {
        let of = "/proc/sys/net/ipv6/conf/eth0/mtu";
        self.done(&["exec", pod, "--", "cat", of]).trim().parse().expect("it is a number")
    }

    /// Whatever of the lab there is: namespaces, a folder, processes.
    fn traces(&self) -> Vec<String> {
        let prefix = format!("lab.{}.", self.name);
        let mut traces = Namespace::list();
        traces.retain(|name| name.starts_with(&prefix));
        let folder = Path::new("/run/millrace/lab").join(&self.name);
        if folder.exists() {
            traces.push(folder.display().to_string());
        }
        for process in fs::read_dir("/proc").expect("this is Linux").flatten() {
            // a process that ends meanwhile has none any more
            let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&words).contains(&*folder.to_string_lossy()) {
                traces.push(process.path().display().to_string());
            }
        }
        traces
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // one that a test has taken down is gone
        self.lab(&["down"]);
    }
}

#[test]
fn pods_on_two_nodes_reach_each_other_with_both_families() {
    let Some(bed) = Bed::up() else { return };
    let matrix = bed.done(&["probe", "--patience", "5s"]);
    assert!(!matrix.contains('!') && matrix.matches("ok").count() >= 6, "{matrix}");

    let probes: Value =
        serde_json::from_str(&bed.done(&["probe", "--patience", "5s", "-o", "json"])).unwrap();
    let probes = probes.as_array().expect("a list");
    for (from, to) in [("shop", "cart"), ("shop", "bank"), ("bank", "cart")] {
        for by in ["tcp", "udp", "ping"] {
            let ours = probes.iter().filter(|probe| {
                probe["from"] == format!("default/{from}")
                    && probe["to"] == format!("default/{to}")
                    && probe["by"] == by
            });
            let families: Vec<bool> = ours
                .map(|probe| probe["address"].as_str().expect("an address").contains(':'))
                .collect();
            assert_eq!(families, [false, true], "{from} to {to} by {by}");
        }
    }
}

#[test]
fn the_kernel_carries_an_exchange_between_pods_and_flows_says_so() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("cart");
    for address in addresses {
        let server = SocketAddr::new(address, ECHO);
        let stream = exchange(&shop, server, "default/cart");
        let flow = bed.flow("east", &stream);
        assert_eq!(flow["original"]["destination"], server.to_string());
        assert_eq!((&flow["state"], &flow["clientPod"]), (&"established".into(), &shop_name()));
        assert_eq!(flow["serverPod"], "default/cart");
        assert!(["bridge", "router"].iter().any(|stage| flow["original"]["by"] == *stage));
        for way in ["original", "reply"] {
            let (all, kernel) = (&flow[way]["packets"], &flow[way]["kernelPackets"]);
            let (all, kernel) = (all.as_u64().unwrap(), kernel.as_u64().unwrap());
            // all but those of the handshake, at most
            assert!(kernel >= EXCHANGES && all >= kernel && all - kernel <= 2, "{flow:#}");
        }
    }

    let status = bed.asked("east", &["status"]);
    let cache = &status["cache"];
    assert!(cache["packets"]["hit"].as_u64() >= Some(2 * EXCHANGES), "{cache:#}");
    assert!(cache["opened"].as_u64() >= Some(2), "{cache:#}");
    assert_eq!((&cache["full"], &cache["refused"]), (&0.into(), &0.into()), "{cache:#}");
    let elsewhere = bed.asked("west", &["flows", "--pod", "bank"]);
    assert!(elsewhere["flows"].as_array().expect("a list").is_empty(), "{elsewhere:#}");
}

#[test]
fn the_kernel_carries_an_exchange_between_nodes_in_the_tunnel_on_both_of_them() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("bank");
    for address in addresses {
        let stream = exchange(&shop, SocketAddr::new(address, ECHO), "default/bank");
        let (there, here) = (("east", "node:west", "original"), ("west", "node:east", "reply"));
        for (node, peer, leaves) in [there, here] {
            let flow = bed.flow(node, &stream);
            let comes = if leaves == "original" { "reply" } else { "original" };
            assert_eq!(flow[leaves]["egress"], peer, "{flow:#}");
            assert_eq!(flow[comes]["ingress"], "underlay", "{flow:#}");
            for way in [leaves, comes] {
                assert!(flow[way]["kernelPackets"].as_u64() >= Some(EXCHANGES), "{flow:#}");
            }
        }
    }
}

#[test]
fn nodes_and_pods_of_other_nodes_reach_each_other_and_pods_know_how_much_a_tunnel_takes() {
    let Some(bed) = Bed::up() else { return };
    let state = bed.state();
    let node = state["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "west");
    let nodes: Vec<IpAddr> = serde_json::from_value(node.unwrap()["addresses"].clone()).unwrap();
    let (_, pods) = bed.pod("bank");
    for (place, addresses) in [("shop", &nodes), ("node:east", &pods)] {
        for address in addresses {
            let ping = ["exec", place, "--", "ping", "-c", "1", "-W", "5", &address.to_string()];
            bed.done(&ping);
        }
    }
    // F3: what VXLAN over IPv4 leaves of 1500, and what IP and ICMP leave of that
    assert_eq!(bed.mtu("shop"), 1450);
    for (address, payload) in pods.iter().zip(["1422", "1402"]) {
        let ping = ["ping", "-c", "1", "-W", "5", "-M", "do", "-s", payload, &address.to_string()];
        bed.done(&[&["exec", "shop", "--"], &ping[..]].concat());
    }
}

#[test]
fn packets_between_nodes_are_as_they_are_where_the_underlay_knows_the_way() {
    for (mode, underlay, leaves, mtu) in [
        ("native", "flat", "eth0", 1500),
        ("auto", "flat", "eth0", 1500),
        ("auto", "routed", "node:west", 1450),
    ] {
        let arguments = ["--tunnel", mode, "--underlay", underlay];
        let Some(bed) = Bed::up_as(&arguments) else { return };
        let (shop, _) = bed.pod("shop");
        let (_, addresses) = bed.pod("bank");
        for address in addresses {
            let stream = exchange(&shop, SocketAddr::new(address, ECHO), "default/bank");
            let flow = bed.flow("east", &stream);
            assert_eq!(flow["original"]["egress"], leaves, "{arguments:?}: {flow:#}");
            for way in ["original", "reply"] {
                assert!(flow[way]["kernelPackets"].as_u64() >= Some(EXCHANGES), "{flow:#}");
            }
        }
        assert_eq!(bed.mtu("shop"), mtu, "{arguments:?}");
    }
}

#[test]
fn pods_send_to_what_is_outside_from_their_nodes_address_f9() {
    let Some(bed) = Bed::up() else { return };
    let state = bed.state();
    let addresses = |of: &Value| -> Vec<IpAddr> { serde_json::from_value(of.clone()).unwrap() };
    let nodes = addresses(&state["nodes"][0]["addresses"]);
    let (shop, _) = bed.pod("shop");
    let outside = bed.outside();
    // where nothing but the default route leads to
    for (beyond, node) in addresses(&state["outside"]["worldWide"]).into_iter().zip(nodes) {
        let listener = outside.run(|| TcpListener::bind((beyond, 0))).unwrap().unwrap();
        let server = listener.local_addr().unwrap();
        let mut stream = shop.run(|| TcpStream::connect(server)).unwrap().unwrap();
        let (mut accepted, client) = listener.accept().unwrap();
        assert_eq!(client.ip(), node);
        assert!(client.port() >= FIRST_MASQUERADED, "{client}");
        let mut bytes = [0; 5];
        for _ in 0..EXCHANGES {
            stream.write_all(b"there").unwrap();
            accepted.read_exact(&mut bytes).unwrap();
            accepted.write_all(&bytes).unwrap();
            stream.read_exact(&mut bytes).unwrap();
        }
        let flow = bed.flow("east", &stream);
        assert_eq!(flow["original"]["egress"], "eth0", "{flow:#}");
        assert_eq!(flow["reply"]["destination"], client.to_string(), "{flow:#}");
        for way in ["original", "reply"] {
            assert!(flow[way]["kernelPackets"].as_u64() >= Some(EXCHANGES), "{flow:#}");
        }

        bed.done(&["exec", "shop", "--", "ping", "-c", "1", "-W", "5", &beyond.to_string()]);
        // nobody is there, and the pod hears of it
        let any = if beyond.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let bind = || UdpSocket::bind(any);
        let socket = shop.run(bind).unwrap().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect((beyond, 9)).unwrap();
        socket.send(b"x").unwrap();
        let error = socket.recv(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    }
    let key = "/proc/sys/net/ipv4/ip_local_reserved_ports";
    let reserved = bed.done(&["exec", "node:east", "--", "cat", key]);
    assert!(reserved.starts_with(&format!("{FIRST_MASQUERADED}-")), "{reserved}");
}

#[test]
fn a_node_is_on_the_network_as_itself_with_its_agent_and_without_f7() {
    let Some(bed) = Bed::up() else { return };
    let state = bed.state();
    let node = &state["nodes"][0];
    let addresses: Vec<IpAddr> = serde_json::from_value(node["addresses"].clone()).unwrap();
    let host = Namespace::open(node["namespace"].as_str().unwrap()).unwrap();
    let outside = bed.outside();
    let reach = || {
        for address in &addresses {
            let listener = host.run(|| TcpListener::bind((*address, 0))).unwrap().unwrap();
            let server = listener.local_addr().unwrap();
            let mut stream = outside.run(|| TcpStream::connect(server)).unwrap().unwrap();
            let (mut accepted, client) = listener.accept().unwrap();
            assert_eq!(client, stream.local_addr().unwrap());
            let mut byte = [0];
            stream.write_all(b"x").unwrap();
            accepted.read_exact(&mut byte).unwrap();
            accepted.write_all(&byte).unwrap();
            stream.read_exact(&mut byte).unwrap();

            let ping = ["exec", "outside", "--", "ping", "-c", "1", "-W", "5"];
            bed.done(&[&ping[..], &[&*address.to_string()]].concat());
        }
    };
    reach();
    let programs = state["programs"].as_array().unwrap();
    let agent = programs.iter().find(|it| it["role"]["agent"]["node"] == "east");
    let pid = agent.expect("it runs")["process"]["pid"].to_string();
    assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
    until(|| bed.done(&["status"]).contains("ended").then_some(()));
    reach();
}

#[test]
fn f13_the_link_of_a_pod_is_limited_as_its_annotations_say() {
    let annotated = "name: shop\n  annotations:\n    kubernetes.io/ingress-bandwidth: 50M\n    \
        kubernetes.io/egress-bandwidth: 50M\n";
    let Some(bed) = Bed::of(&PODS.replacen("name: shop\n", annotated, 1), &[]) else { return };
    let limits = |place: &str| {
        bed.done(&["exec", place, "--", "tc", "qdisc", "show"]).matches("qdisc tbf").count()
    };
    assert_eq!(["shop", "cart", "node:east", "node:west"].map(limits), [1, 0, 1, 0]);

    let (cart, _) = bed.pod("cart");
    let (_, addresses) = bed.pod("shop");
    for address in addresses {
        let stream = exchange(&cart, SocketAddr::new(address, ECHO), "default/shop");
        let flow = bed.flow("east", &stream);
        for way in ["original", "reply"] {
            assert!(flow[way]["kernelPackets"].as_u64() >= Some(EXCHANGES), "{flow:#}");
        }
    }
}

#[test]
fn a_trace_follows_a_packet_that_nobody_sends_and_one_of_a_live_connection() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("cart");
    for address in addresses {
        let server = SocketAddr::new(address, ECHO);
        let to = server.to_string();
        let ask = |more: &[&str]| {
            bed.asked("east", &[&["trace", "--from", "shop", "--to", &to], more].concat())
        };
        let traced = ask(&[]);
        assert_eq!(traced["connection"], Value::Null);
        let stages = traced["stages"].as_array().expect("the chain is asked");
        assert!(stages.iter().all(|step| step["outcome"] == "answered"), "{traced:#}");
        let ending = &traced["ending"];
        assert_eq!(ending["fate"], "forwarded", "{traced:#}");
        let port = ending["delivery"]["ports"][0].as_str().expect("it leaves");
        assert_eq!(traced["pods"][port], "default/cart");
        let carried = &ending["delivery"]["offload"];
        assert_eq!((&carried["there"], &carried["back"]), (&true.into(), &true.into()));
        let flows = bed.asked("east", &["flows", "--pod", "shop"]);
        let opened = flows["flows"].as_array().expect("a list").iter();
        assert!(!opened.clone().any(|flow| flow["original"]["destination"] == *to), "{flows:#}");

        let stream = shop.run(|| TcpStream::connect(server)).expect("it can be entered");
        let stream = stream.expect("the server listens");
        let client = stream.local_addr().expect("it is connected").port().to_string();
        let traced = ask(&["--source-port", &client]);
        assert_eq!(traced["connection"]["direction"], "original", "{traced:#}");
        assert_eq!(traced["connection"]["flow"]["original"]["destination"], to);
    }
    let nowhere = bed.asked("east", &["trace", "--from", "shop", "--to", "10.1.0.99:80"]);
    assert_eq!(nowhere["ending"]["reason"], "no-route", "{nowhere:#}");
    let output =
        bed.lab(&["exec", "node:east", "--", MILLRACE, "trace", "--from=shap", "--to=::1"]);
    assert!(text(&output.stderr).contains("`default/shop`"), "{}", text(&output.stderr));
}

#[test]
fn a_ports_counters_include_what_the_kernel_carried() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("cart");
    exchange(&shop, SocketAddr::new(addresses[0], ECHO), "default/cart");

    let named = |ports: &Value, pod: &str| {
        let ports = ports.as_array().expect("a list").iter();
        ports.clone().find(|port| port["pod"] == format!("default/{pod}")).cloned()
    };
    let ports = until(|| {
        let ports = bed.asked("east", &["ports"]);
        let shop = named(&ports, "shop")?;
        (shop["counters"]["rxKernelPackets"].as_u64() >= Some(EXCHANGES)).then_some(ports)
    });
    for (pod, came, left) in [("shop", "rx", "tx"), ("cart", "rx", "tx")] {
        let port = named(&ports, pod).expect("it has a port");
        let counters = &port["counters"];
        let count = |key: String| counters[key].as_u64().expect("it is counted");
        for way in [came, left] {
            let kernel = count(format!("{way}KernelPackets"));
            assert!(kernel >= EXCHANGES, "{pod} {way}: {counters:#}");
            assert!(count(format!("{way}Packets")) >= kernel, "{pod} {way}: {counters:#}");
            assert!(count(format!("{way}KernelBytes")) > kernel * 60, "{counters:#}");
        }
        assert_eq!((&port["attached"], &port["kind"]), (&"cache".into(), &"pod".into()));
        assert!(port["mac"].is_string());
        assert_eq!(port["addresses"].as_array().map(Vec::len), Some(2), "{port:#}");
    }
    let stats = bed.asked("east", &["stats"]);
    let port = named(&ports, "shop").expect("it has a port")["name"].clone();
    assert_eq!(stats["pods"][port.as_str().expect("a name")], "default/shop");

    // by what they are, and the most first
    let flows =
        bed.asked("east", &["flows", "--proto", "tcp", "--sort", "packets", "--limit", "1"]);
    let flow = &flows["flows"][0];
    assert!(flow["original"]["packets"].as_u64() >= Some(EXCHANGES), "{flows:#}");
    let none = bed.asked("east", &["flows", "--proto", "sctp"]);
    assert!(none["flows"].as_array().expect("a list").is_empty(), "{none:#}");
}

#[test]
fn a_capture_has_the_packets_of_the_chain_and_those_of_the_kernel_with_what_became_of_them() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("cart");
    let server = SocketAddr::new(addresses[0], ECHO);
    let file = bed.manifests.path().join("capture.pcapng");
    let path = file.display().to_string();
    let filter = format!("tcp port {ECHO} and host {}", server.ip());
    let count = (2 * EXCHANGES).to_string();
    let mut capture = bed.begun("east", &["capture", "-c", &count, "-w", &path, &filter]);
    // it has begun when the section has
    until(|| fs::metadata(&file).is_ok_and(|file| file.len() > 0).then_some(()));
    let refused = bed.lab(&["exec", "node:east", "--", MILLRACE, "capture", "-c", "1"]);
    assert!(text(&refused.stderr).contains("one capture"), "{}", text(&refused.stderr));
    exchange(&shop, server, "default/cart");
    assert!(capture.wait().expect("it ends").success());

    let packets = capture::read(&file).expect("it is whole");
    assert_eq!(packets.len() as u64, 2 * EXCHANGES);
    assert!(packets.iter().all(|packet| packet.frame.len() == packet.wire_len));
    let comments = comments(&file);
    for (words, least) in [("the chain was asked", 1), ("carried by the kernel", 2 * EXCHANGES - 5)]
    {
        let count = comments.iter().filter(|comment| comment.ends_with(words)).count() as u64;
        assert!(count >= least, "{words}: {comments:#?}");
    }
    assert!(comments.iter().all(|it| it.starts_with("forwarded by ")), "{comments:#?}");
    assert!(comments.iter().all(|it| it.contains(" by bridge, leaves by mp")), "{comments:#?}");

    // its packets pass filters again
    let mut replay = Command::new(MILLRACE);
    let replayed = replay.args(["filter", "test", "bridge", "--pcap", &path]).output().unwrap();
    assert!(replayed.status.success(), "{}", text(&replayed.stderr));
    let said = text(&replayed.stdout);
    assert!(said.contains(&format!("# {} packets", packets.len())), "{said}");
}

#[test]
fn packets_that_pass_are_traced() {
    let Some(bed) = Bed::up() else { return };
    let (shop, _) = bed.pod("shop");
    let (_, addresses) = bed.pod("cart");
    let server = SocketAddr::new(addresses[1], ECHO);
    let filter = format!("udp dst port {ECHO}");
    let words = ["trace", "--live", &filter, "-c", "1", "-o", "json"];
    let mut live = bed.begun("east", &words);
    let socket = shop.run(|| std::net::UdpSocket::bind("[::]:0")).unwrap().unwrap();
    until(|| {
        socket.send_to(b"x", server).expect("there is a route");
        live.try_wait().expect("it is ours").map(|status| assert!(status.success()))
    });
    let mut line = String::new();
    BufReader::new(live.stdout.take().expect("it is piped")).read_line(&mut line).unwrap();
    let packet: Value = serde_json::from_str(&line).expect("it is JSON");
    assert_eq!(packet["happened"]["fate"], "forwarded", "{packet:#}");
    assert_eq!(packet["packet"]["destination"], server.to_string());
    assert_eq!(packet["ending"]["fate"], "forwarded", "{packet:#}");
}

#[test]
fn a_command_runs_in_a_pod_and_its_exit_code_is_handed_on() {
    let Some(bed) = Bed::up() else { return };
    let (_, addresses) = bed.pod("shop");
    let shown = bed.done(&["exec", "shop", "--", "ip", "-brief", "address", "show", "eth0"]);
    for address in addresses {
        assert!(shown.contains(&format!("{address}/")), "{address}: {shown}");
    }
    let output = bed.lab(&["exec", "default/bank", "--", "sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output.stderr));
    let output = bed.lab(&["exec", "bakery", "--", "true"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("default/bank"), "{}", text(&output.stderr));
}

#[test]
fn labs_are_side_by_side_and_one_that_is_taken_down_leaves_nothing() {
    let (Some(one), Some(other)) = (Bed::up(), Bed::up()) else { return };
    for bed in [&one, &other] {
        bed.done(&["probe", "--patience", "5s"]);
    }
    one.done(&["down"]);
    until(|| one.traces().is_empty().then_some(()));
    other.done(&["probe", "--patience", "5s"]);
}

/// A connection of a pod to a server of the lab, which has answered some lines.
fn exchange(pod: &Namespace, server: SocketAddr, name: &str) -> TcpStream {
    let stream = pod.run(|| TcpStream::connect(server)).expect("it can be entered");
    let mut stream = stream.expect("the server listens");
    let client = stream.local_addr().expect("it is connected");
    let mut lines = BufReader::new(stream.try_clone().expect("it can be shared"));
    for number in 0..EXCHANGES {
        writeln!(stream, "{number}").expect("it is open");
        let mut line = String::new();
        lines.read_line(&mut line).expect("it is text");
        assert_eq!(line, format!("{name} {client} {number}\n"));
    }
    stream
}

/// What a capture says of its packets.
fn comments(file: &Path) -> Vec<String> {
    let bytes = fs::read(file).expect("it is there");
    let mut reader = PcapNgReader::new(&bytes[..]).expect("it is a capture");
    let mut comments = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.expect("it is whole") {
            comments.extend(packet.options.iter().find_map(|option| match option {
                EnhancedPacketOption::Comment(comment) => Some(comment.to_string()),
                _ => None,
            }));
        }
    }
    comments
}

/// Asks until there is an answer.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "what is awaited does not come");
        thread::yield_now();
    }
}

fn shop_name() -> Value {
    "default/shop".into()
}

/// Whether namespaces can be made.
fn is_root() -> bool {
    match Namespace::create_unique("lab-test") {
        Err(error @ NamespaceError::Denied { .. }) if std::env::var_os("CI").is_none() => {
            eprintln!("not run: {error}");
            false
        }
        outcome => outcome.map(|_| true).expect("root can make namespaces"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

const MILLRACE: &str = env!("CARGO_BIN_EXE_millrace");
const NODES: &str = include_str!("../../../examples/lab/nodes.yaml");
const PODS: &str = include_str!("../../../examples/lab/pods.yaml");
/// Where the lab's server echoes.
const ECHO: u16 = 7;
/// The first of the ports that sources are masqueraded to.
const FIRST_MASQUERADED: u16 = 49_152;
/// Lines that are said.
const EXCHANGES: u64 = 50;
/// How long something may take that comes by itself.
const PATIENCE: Duration = Duration::from_secs(20);
