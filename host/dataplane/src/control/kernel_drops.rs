//! Packets that the kernel dropped, in its flow cache or behind it: no worker has seen them.

use std::collections::BTreeMap;

use millrace_abi::Reason;
use millrace_fastpath::Counter;

use super::Dataplane;
use super::ports::{PortError, Ports};
use super::punt::PuntError;
use super::status::FateStatus;
use crate::counters::Fate;
use crate::port::PortId;

impl Dataplane {
    /// What the kernel's flow cache dropped, and what found no room on its way to workers, by reason;
    /// neither is counted by port. Nothing without a flow cache.
    ///
    /// # Errors
    /// If the kernel does not say, or a worker is gone.
    pub fn kernel_drops(&self) -> Result<Vec<FateStatus>, PortError> {
        let drops = self.shared.ports.lock().kernel_drops()?;
        let status = |(reason, packets): (Reason, u64)| FateStatus {
            port: ANY_PORT.to_owned(),
            stage: None,
            fate: Fate::Dropped(reason).label().into(),
            reason: Some(reason.label().into()),
            packets,
        };
        Ok(drops.into_iter().map(status).collect())
    }
}

impl Ports {
    /// What was dropped in the flow cache and behind it, if there is one.
    fn kernel_drops(&self) -> Result<BTreeMap<Reason, u64>, PortError> {
        let mut drops = BTreeMap::new();
        let Some(punt) = &self.punt else { return Ok(drops) };
        for counter in Counter::ALL {
            let Some(reason) = reason(counter) else { continue };
            let packets = punt.cache.lock().count(counter).map_err(PuntError::from)?;
            *drops.entry(reason).or_default() += packets;
        }
        for kernel in self.socket_statistics(PortId::PUNT)? {
            // what there was no frame for is among what was dropped for other reasons than the ring
            let too_long = kernel.rx_dropped.saturating_sub(kernel.rx_fill_ring_empty);
            for (reason, packets) in [
                (Reason::PuntFull, kernel.rx_ring_full),
                (Reason::NoFrame, kernel.rx_fill_ring_empty),
                (Reason::TruncatedFrame, too_long),
            ] {
                *drops.entry(reason).or_default() += packets;
            }
        }
        drops.retain(|_, packets| *packets > 0);
        Ok(drops)
    }
}

/// Why packets of a fate in the kernel go no further; nothing if they do.
fn reason(counter: Counter) -> Option<Reason> {
    match counter {
        Counter::DropEntry => Some(Reason::RefusedFlow),
        Counter::DropTagged => Some(Reason::VlanNotAllowed),
        Counter::DropNoPort | Counter::DropGone | Counter::DropUntagged => Some(Reason::NoSuchPort),
        Counter::DropNoPunt | Counter::DropDown => Some(Reason::AgentDown),
        Counter::DropForged => Some(Reason::SpoofedAddress),
        Counter::DropLimit => Some(Reason::NewFlowLimit),
        Counter::DropFailed => Some(Reason::KernelRefused),
        Counter::Hit
        | Counter::MissUnknown
        | Counter::MissChanged
        | Counter::MissPunt
        | Counter::MissWaiting
        | Counter::MissSyn
        | Counter::MissMtu
        | Counter::MissTtl
        | Counter::MissFragment
        | Counter::MissOptions
        | Counter::MissProtocol
        | Counter::MissMalformed
        | Counter::Returned
        | Counter::Forced
        | Counter::LostEvents => None,
    }
}

/// Stands for whichever port it was.
pub const ANY_PORT: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_a_drop_has_a_reason_and_nothing_else_has() {
        for counter in Counter::ALL {
            let drops = format!("{counter:?}").starts_with("Drop");
            assert_eq!(reason(counter).is_some(), drops, "{counter:?}");
        }
    }
}
