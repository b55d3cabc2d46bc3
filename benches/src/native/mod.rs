//! A filter compiled natively, as a worker calls it: what WebAssembly is measured against.
//!
//! It is the same filter crate, called through the same [`Guest`] with the same slots in the same
//! batches, and its host maps are the same ones. What differs is what is measured: the compiler,
//! the boundary, and the copy into another memory. Only the flow hook is here, for that is what
//! the benches ask.
//!
//! A call of the host costs a native filter a few nanoseconds too, since it finds its host through
//! the thread: a host with native filters alone would do without.

mod host;

use std::sync::Arc;

use millrace_abi::{Decision, Origin, PacketRecord, Slot, limits};
use millrace_dataplane::guest::Guest;
use millrace_filter::testing::host::{self as current, Host};
use millrace_filter::{Error, Filter};
use millrace_sandbox::maps::MapRegistry;
use millrace_sandbox::{Fault, Metric};

use host::NativeHost;

/// A native filter.
pub struct NativeGuest<F> {
    filter: F,
    stage: Arc<str>,
    registry: Arc<MapRegistry>,
    host: Arc<NativeHost>,
    /// The same host, as filters know it.
    current: Arc<dyn Host>,
    slots: Box<[Slot]>,
    decisions: Box<[Decision]>,
}

impl<F: Filter + Send> NativeGuest<F> {
    /// Makes the filter from its configuration as JSON. Its host maps are those of `stage`.
    ///
    /// # Errors
    /// If it refuses the configuration.
    pub fn new(registry: &Arc<MapRegistry>, stage: &Arc<str>, config: &str) -> Result<Self, Error> {
        let host = Arc::new(NativeHost::new(stage, registry));
        let current: Arc<dyn Host> = Arc::<NativeHost>::clone(&host);
        Ok(Self {
            filter: current::configure(&current, config)?,
            stage: Arc::clone(stage),
            registry: Arc::clone(registry),
            host,
            current,
            slots: vec![Slot::ZERO; limits::MAX_BATCH].into(),
            decisions: vec![Decision::ZERO; limits::MAX_BATCH].into(),
        })
    }
}

impl<F: Filter + Send> Guest for NativeGuest<F> {
    #[inline]
    fn slots(&mut self, n: usize) -> &mut [Slot] {
        &mut self.slots[..n]
    }

    #[inline]
    fn flow(&mut self, n: usize, _origin: Origin, now_ns: u64) -> Result<&[Decision], Fault> {
        let (slots, decisions) = (&self.slots[..n], &mut self.decisions[..n]);
        for decision in decisions.iter_mut() {
            // as the sandbox does
            decision.control = 0;
            decision.tag_count = 0;
            decision.fields = 0;
            decision.reason = 0;
            decision.rule = 0;
        }
        self.host.begin(now_ns);
        current::flow(&self.current, &mut self.filter, slots, decisions);
        Ok(decisions)
    }

    fn push_packet(&mut self, _slot: &Slot, _frame: &[u8]) -> bool {
        unreachable!("{FLOW_ALONE}")
    }

    fn show_packets(
        &mut self,
        _origin: Origin,
        _now_ns: u64,
        _take: &mut dyn FnMut(usize, &PacketRecord, &[u8]),
    ) -> Result<(), Fault> {
        unreachable!("{FLOW_ALONE}")
    }

    #[inline]
    fn take_emitted(&mut self, _take: &mut dyn FnMut(u16, &[u8])) {}

    fn tick(&mut self, now_ns: u64) -> Result<(), Fault> {
        self.host.begin(now_ns);
        current::with(&self.current, || self.filter.tick(now_ns));
        Ok(())
    }

    fn configure(&mut self, config: &str) -> Result<(), String> {
        *self =
            Self::new(&self.registry, &self.stage, config).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn update(&mut self, _changes: &[u8]) -> Result<(), String> {
        unreachable!("{NO_TABLES}")
    }

    fn metrics(&self) -> Vec<Metric> {
        self.host.metrics()
    }

    fn recount(&mut self) {
        unreachable!("{NO_TABLES}")
    }

    fn memory_size(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.slots) + size_of_val(&*self.decisions)
    }
}

const NO_TABLES: &str = "the filters of the benches subscribe to no tables";
const FLOW_ALONE: &str = "the traffic of the benches gives no filter a reason to look into packets";

#[cfg(test)]
mod tests {
    use millrace_bridge::Bridge;
    use millrace_filter::Field;

    use super::*;

    #[test]
    fn a_native_bridge_learns_in_the_hosts_maps_and_counts() {
        let (registry, stage) = (Arc::new(MapRegistry::default()), Arc::from("bridge"));
        let mut bridge =
            NativeGuest::<Bridge>::new(&registry, &stage, "{}").expect("the defaults are fine");
        let (a, b) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let slot = |ingress, src_mac, dst_mac| Slot { ingress, src_mac, dst_mac, ..Slot::ZERO };
        bridge.slots(2).copy_from_slice(&[slot(1, a, b), slot(2, b, a)]);

        let decisions = bridge.flow(2, Origin::New, 1_000).expect("native filters do not fail");

        assert!(decisions[0].stated().contains(Field::Flood), "nobody knows b yet");
        assert!(decisions[1].stated().contains(Field::Egress));
        assert_eq!(decisions[1].egress, 1);
        let maps = registry.owned_by("bridge");
        assert_eq!(
            maps.iter().map(|(name, map)| (&**name, map.len())).next(),
            Some(("stations", 2))
        );
        let learned = bridge.metrics().into_iter().find(|metric| metric.name == "learned");
        assert_eq!(
            learned.map(|metric| metric.value),
            Some(millrace_sandbox::MetricValue::Counter(2))
        );
    }

    #[test]
    fn a_native_filter_refuses_what_it_refuses_as_webassembly() {
        let (registry, stage) = (Arc::new(MapRegistry::default()), Arc::from("bridge"));
        let refusal = NativeGuest::<Bridge>::new(&registry, &stage, r#"{"aging_seconds": 0}"#);
        assert!(
            refusal.err().expect("it must be at least 1").to_string().contains("aging_seconds")
        );
    }
}
