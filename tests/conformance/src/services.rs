//! The load balancer of a node, told what manifests say.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};

use millrace_abi::{Control, Decision, Field, Origin, PortKind, Reason, Slot, limits};
use millrace_builtin::find;
use millrace_control::compile::Compiler;
use millrace_control::source::Manifests;
use millrace_filter::testing::frames;
use millrace_filter::wire::tcp::Flags;
use millrace_sandbox::maps::Served;
use millrace_sandbox::{Grant, Instance, Module, Sandbox, Settings};
use millrace_tables::Table;

/// The filter.
pub struct Services(Instance);

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes to an endpoint.
    To(SocketAddr, Source),
    /// Who opens it is told that nobody is there.
    Rejected(Reason),
    /// Nobody is told.
    Dropped(Reason),
    /// The filter has nothing to say about it.
    Nothing,
}

/// Whom an endpoint sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Who has opened the connection.
    Kept,
    /// The node.
    Masqueraded,
}

impl Services {
    /// That of a node, which knows what these manifests say.
    ///
    /// # Panics
    /// If something about them is wrong.
    pub fn of(manifests: &str, node: &str) -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        std::fs::write(directory.path().join("all.yaml"), manifests).expect("the folder is there");
        let read = Manifests::open(directory.path()).and_then(|it| it.read());
        let (world, complaints) = read.expect("the folder is there");
        assert!(complaints.is_empty(), "{}", complaints[0]);
        let mut compiler = Compiler::new(node);
        compiler.learn(world);
        let publication = compiler.compile();
        for (name, summary) in &publication.services {
            let summary = summary.as_ref().expect("nothing was there before");
            assert!(summary.problems.is_empty(), "{name}: {:?}", summary.problems);
        }

        let grant = Grant::new("stage");
        let mut instance = FILTER.1.instantiate(&grant, "{}").expect("it needs nothing");
        for update in publication.delta.updates(&Table::ALL, 1, limits::MAX_BATCH * 64) {
            instance.update(&update).expect("the tables fit together");
        }
        Self(instance)
    }

    /// Has an endpoint have one more connection, for this load balancer and all others here.
    pub fn opened(to: SocketAddr) {
        let address = match to.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            IpAddr::V6(v6) => v6.octets(),
        };
        FILTER.0.maps().connections().raise(&Served { address, port: to.port(), protocol: 6 });
    }

    /// What becomes of a TCP connection from a port of this kind.
    ///
    /// # Panics
    /// If the filter fails.
    pub fn connect(&mut self, from: PortKind, source: SocketAddr, to: SocketAddr) -> Outcome {
        let frame = frames::tcp(&source.to_string(), &to.to_string(), Flags::SYN, b"");
        let mut slot =
            Slot { ingress: 1, ingress_kind: from as u8, now_ns: 1_000_000_000, ..Slot::ZERO };
        millrace_parse::parse(&frame, &mut slot).expect("the frame is well-formed");
        self.0.slots_mut(1)[0] = slot;
        let decision = self.0.flow(1, Origin::New, slot.now_ns).expect("it answers")[0];
        Outcome::of(&decision)
    }
}

impl Outcome {
    fn of(decision: &Decision) -> Self {
        let reason = || Reason::from_u16(decision.reason).expect("a reason of the table");
        match Control::from_u8(decision.control) {
            Some(Control::Reject) => return Self::Rejected(reason()),
            Some(Control::Drop) => return Self::Dropped(reason()),
            _ if !decision.stated().contains(Field::To) => return Self::Nothing,
            _ => {}
        }
        let to = Slot { to_addr: decision.to_addr, ip_version: 6, ..Slot::ZERO };
        let address: IpAddr = to.translated_destination().expect("it is IP").to_canonical();
        let source = match decision.stated().contains(Field::Masquerade) {
            true => Source::Masqueraded,
            false => Source::Kept,
        };
        Self::To(SocketAddr::new(address, decision.to_port), source)
    }
}

/// The filter that ships, and where it runs: compiled once for all rows.
static FILTER: LazyLock<(Sandbox, Arc<Module>)> = LazyLock::new(|| {
    let sandbox = Sandbox::new(&Settings::default()).expect("the engine starts");
    let module = find("service-lb").expect("it is built in").bytes;
    let module = sandbox.load(module, limits::DEFAULT_MEMORY).expect("it is sound");
    (sandbox, module)
});
