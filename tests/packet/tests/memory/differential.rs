//! Every filter in Rust twice: as the module that ships, and as the same source compiled
//! natively. Whatever happens, both say the same.

use std::sync::Arc;
use std::time::Duration;

use millrace_abi::{Decision, Field, Origin, PacketRecord, PacketVerdict, Reason, Slot};
use millrace_bridge::Bridge;
use millrace_deny_list::DenyList;
use millrace_dns_log::DnsLog;
use millrace_filter::Filter;
use millrace_filter::testing::{Rig, frames, strategies};
use millrace_packet_tests::sandbox;
use millrace_rate_limit::RateLimit;
use millrace_sandbox::{Grant, Instance, MetricValue, Module, Sandbox};
use proptest::prelude::*;

/// A filter, natively and as a module, each with host maps of its own.
struct Pair<F> {
    native: Rig<F>,
    sandbox: Arc<Sandbox>,
    module: Arc<Module>,
    instance: Instance,
    grant: Grant,
    config: &'static str,
}

/// What happens to a filter.
#[derive(Clone, Debug)]
enum Step {
    /// It is asked about flows that come in by a port: new ones in one batch.
    Flows(u16, Origin, Vec<Vec<u8>>),
    /// It is shown packets that come in by a port, in one batch.
    Packets(u16, Vec<Vec<u8>>),
    /// Time passes.
    Wait(Duration),
    /// Another copy takes its place.
    Swap,
}

impl<F: Filter> Pair<F> {
    fn new(sandbox: &Arc<Sandbox>, module: &Arc<Module>, config: &'static str) -> Self {
        let grant = Grant::new("stage");
        let instance = module.instantiate(&grant, config).expect("it takes its configuration");
        let (sandbox, module) = (Arc::clone(sandbox), Arc::clone(module));
        Self { native: Rig::new(config), sandbox, module, instance, grant, config }
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Flows(port, Origin::New, frames) => self.flows(port, Origin::New, &frames)?,
            // what one dry call writes is gone before the next one: a batch is none but in name
            Step::Flows(port, origin, frames) => {
                frames.chunks(1).try_for_each(|frame| self.flows(port, origin, frame))?;
            }
            Step::Packets(port, frames) => self.packets(port, &frames)?,
            Step::Wait(time) => {
                self.native.advance(time);
                // as the host does every second: until then the dead take up room
                let arp = frames::arp_request("10.0.0.1", "10.0.0.2");
                self.sandbox.maps().sweep(self.native.slot(1, &arp).now_ns);
            }
            Step::Swap => {
                self.native.reconfigure(self.config).expect("it took it before");
                self.instance =
                    self.module.instantiate(&self.grant, self.config).expect("it took it before");
            }
        }
        for metric in self.instance.metrics() {
            if let MetricValue::Counter(counted) = metric.value {
                prop_assert_eq!(counted, self.native.metric(&metric.name), "{}", metric.name);
            }
        }
        Ok(())
    }

    fn flows(
        &mut self,
        port: u16,
        origin: Origin,
        frames: &[Vec<u8>],
    ) -> Result<(), TestCaseError> {
        let slots = self.slots(port, origin, frames);
        let natively: Vec<_> = slots.iter().map(|slot| stated(&self.native.decide(slot))).collect();
        self.instance.slots_mut(slots.len()).copy_from_slice(&slots);
        let decisions = self.instance.flow(slots.len(), origin, slots[0].now_ns);
        let as_module: Vec<_> = decisions.expect("it answers").iter().map(stated).collect();
        prop_assert_eq!(as_module, natively);
        Ok(())
    }

    fn packets(&mut self, port: u16, frames: &[Vec<u8>]) -> Result<(), TestCaseError> {
        let slots = self.slots(port, Origin::New, frames);
        for (slot, frame) in slots.iter().zip(frames) {
            assert!(self.instance.push_packet(slot, frame), "there is room for a few");
        }
        let mut as_module = Vec::new();
        let mut take = |at: usize, record: &PacketRecord, bytes: &[u8]| {
            let seen = &bytes[..record.len as usize];
            as_module.push((record.verdict, record.flags, frames[at].starts_with(seen)));
        };
        let shown = self.instance.show_packets(Origin::New, slots[0].now_ns, &mut take);
        shown.expect("it answers");
        for (frame, (verdict, flags, unchanged)) in frames.iter().zip(as_module) {
            let natively = self.native.packet_from(port, frame);
            prop_assert_eq!(PacketVerdict::from_u8(verdict), Some(natively.verdict));
            prop_assert_eq!((flags, unchanged), (0, natively.bytes == *frame));
        }
        let lines: Vec<_> = self.grant.log.since(0).into_iter().map(|line| line.text).collect();
        let natively = self.native.lines();
        // a host lets a filter say less than it might
        prop_assert!(lines.ends_with(&natively) || lines.len() >= LINES, "{natively:?}");
        Ok(())
    }

    fn slots(&self, port: u16, origin: Origin, frames: &[Vec<u8>]) -> Vec<Slot> {
        let slot = |frame: &Vec<u8>| Slot { origin: origin as u8, ..self.native.slot(port, frame) };
        frames.iter().map(slot).collect()
    }
}

/// What a decision says; what it does not state is whatever the call before left there.
fn stated(decision: &Decision) -> String {
    let fields = decision.stated();
    let mut text = format!("control {} fields {:#x}", decision.control, fields.bits());
    if decision.control != 0 {
        text += &format!(" reason {:?}", Reason::stated_by_filter(decision.reason));
    }
    for (field, value) in [
        (Field::Egress, u64::from(decision.egress)),
        (Field::Inspect, u64::from(decision.inspect)),
        (Field::Idle, u64::from(decision.idle_ms)),
        (Field::Revalidate, u64::from(decision.revalidate_ms)),
    ] {
        if fields.contains(field) {
            text += &format!(" {} {value}", field.label());
        }
    }
    let tags = &decision.tags[..usize::from(decision.tag_count)];
    text + &format!(" rule {} tags {tags:?}", decision.rule)
}

/// Runs a filter through anything that may happen, with each of these configurations.
fn compare<F: Filter>(
    name: &str,
    configs: &[&'static str],
    steps: impl Fn() -> BoxedStrategy<Step>,
) {
    let sandbox = sandbox();
    let bytes = millrace_builtin::find(name).expect("it is built in").bytes;
    let module = sandbox.load(bytes, millrace_abi::limits::DEFAULT_MEMORY).expect("it is sound");
    for &config in configs {
        proptest!(ProptestConfig::with_cases(32), |(steps in prop::collection::vec(steps(), 1..60))| {
            sandbox.maps().forget("stage");
            let mut pair = Pair::<F>::new(&sandbox, &module, config);
            steps.into_iter().try_for_each(|step| pair.take(step))?;
        });
    }
}

/// Flows of all sorts, and time that passes.
fn flows() -> BoxedStrategy<Step> {
    let origin = prop_oneof![
        6 => Just(Origin::New),
        1 => Just(Origin::Redecide),
        1 => Just(Origin::Shadow),
    ];
    let frames = prop::collection::vec(strategies::frame(), 1..40);
    prop_oneof![
        8 => (1..4u16, origin, frames).prop_map(|(port, origin, frames)| {
            Step::Flows(port, origin, frames)
        }),
        2 => (0..3000u64).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
        1 => Just(Step::Swap),
    ]
    .boxed()
}

/// Questions to name servers, good and bad.
fn questions() -> BoxedStrategy<Step> {
    let label = prop::collection::vec(any::<u8>(), 1..12)
        .prop_map(|label| [vec![label.len() as u8], label].concat());
    let question = (prop::collection::vec(label, 0..5), any::<u16>()).prop_map(|(labels, kind)| {
        let header = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        [header, labels.concat(), vec![0], kind.to_be_bytes().to_vec(), vec![0, 1]].concat()
    });
    let message = prop_oneof![question, prop::collection::vec(any::<u8>(), 0..60)];
    let ends = prop_oneof![
        Just(("10.0.0.1:999", "10.0.0.2:53")),
        Just(("[2001:db8::1]:999", "[2001:db8::2]:53")),
    ];
    let frame = (ends, message, any::<bool>()).prop_map(|((from, to), message, tagged)| {
        let frame = frames::udp(from, to, &message);
        if tagged { frames::tagged(frame, 9) } else { frame }
    });
    let frames = prop::collection::vec(frame, 1..10);
    prop_oneof![(1..4u16, frames).prop_map(|(port, frames)| Step::Packets(port, frames)), flows()]
        .boxed()
}

#[test]
fn a_bridge_decides_as_its_source_does() {
    let small = r#"{"aging_seconds": 5, "stations_per_port": 6, "stations": 40}"#;
    compare::<Bridge>("bridge", &["{}", small], flows);
}

#[test]
fn a_deny_list_decides_as_its_source_does() {
    let rules = r#"{"rules": [
        {"from": "10.0.1.0/24", "protocol": "tcp"},
        {"to": "2001:db8:0:2::/64", "protocol": "udp", "port": 53},
        {"from": "10.0.0.0/31", "to": "10.0.3.0/24"},
        {"protocol": "sctp"},
        {"port": 443}
    ]}"#;
    let rejecting = r#"{"rules": [{"port": 80}, {"from": "::/0"}], "action": "reject"}"#;
    compare::<DenyList>("deny-list", &[r#"{"rules": []}"#, rules, rejecting], flows);
}

#[test]
fn a_rate_limit_decides_as_its_source_does() {
    let tight = r#"{"flows_per_second": 3, "burst": 4}"#;
    let few = r#"{"flows_per_second": 7, "burst": 2, "sources": 5}"#;
    compare::<RateLimit>("rate-limit", &[tight, few], flows);
}

#[test]
fn a_log_of_questions_reads_as_its_source_does() {
    compare::<DnsLog>("dns-log", &["{}"], questions);
}

/// Lines that a filter may write at once.
const LINES: usize = 100;
