//! Packets that the kernel dropped, in its flow cache or behind it: no worker has seen them.

use std::collections::BTreeMap;

use millrace_abi::Reason;
use millrace_fastpath::{Counter, RefusedBy};

use super::Dataplane;
use super::ports::{PortError, Ports};
use super::punt::PuntError;
use super::status::{FateStatus, RuleDrops};
use super::trace::RuleStatus;
use crate::counters::Fate;
use crate::port::PortId;
use crate::tracking::refuser::Refuser;

impl Dataplane {
    /// What the kernel's flow cache dropped, and what found no room on its way to workers, by reason,
    /// and of connections that were refused while they lived by stage; by port only what of it was too
    /// much. Nothing without a flow cache.
    ///
    /// # Errors
    /// If the kernel does not say, or a worker is gone.
    pub fn kernel_drops(&self) -> Result<Vec<FateStatus>, PortError> {
        let (drops, refused) = self.shared.ports.lock().kernel_drops()?;
        let status = |port: String, stage: Option<String>, reason: Reason, packets| FateStatus {
            port,
            stage,
            fate: Fate::Dropped(reason).label().into(),
            reason: Some(reason.label().into()),
            packets,
        };
        let mut of_stages = BTreeMap::new();
        for Refused { by: Refuser { stage, reason, .. }, packets, .. } in refused {
            *of_stages.entry((stage, reason)).or_default() += packets;
        }
        let unnamed = drops.into_iter();
        let unnamed = unnamed.map(|((port, reason), packets)| status(port, None, reason, packets));
        let named = of_stages.into_iter().map(|((stage, reason), packets)| {
            status(ANY_PORT.to_owned(), Some(stage), reason, packets)
        });
        Ok(unnamed.chain(named).collect())
    }

    /// Of connections that were refused while they lived, packets that the kernel dropped, by the
    /// rule that refused: by those that this process knows. Nothing without a flow cache.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn kernel_drops_by_rule(&self) -> Result<Vec<RuleDrops>, PortError> {
        let (_, refused) = self.shared.ports.lock().refused()?;
        let stages = self.shared.stages.lock();
        let numbers = stages.names();
        let is_known = |refused: &Refused| refused.is_own && refused.by.rule != 0;
        let drops = refused.into_iter().filter(is_known).map(|Refused { by, packets, .. }| {
            let Refuser { stage, reason, rule: id } = by;
            let number = numbers.iter().find(|(_, name)| ***name == *stage);
            let rule = number.and_then(|(number, _)| stages.rule(*number, id));
            RuleDrops {
                port: ANY_PORT.to_owned(),
                reason: reason.label().into(),
                rule: rule.unwrap_or(RuleStatus { id, name: None, help: None }),
                stage,
                packets,
            }
        });
        Ok(drops.collect())
    }
}

/// Packets by the port that they came in by, and why they went no further.
type ByPort = BTreeMap<(String, Reason), u64>;

/// Packets that entries dropped.
struct Refused {
    by: Refuser,
    /// Whether this process has refused them, and knows the rule.
    is_own: bool,
    packets: u64,
}

impl Ports {
    /// What was dropped in the flow cache and behind it, if there is one; and apart from that, what
    /// stages refused.
    fn kernel_drops(&self) -> Result<(ByPort, Vec<Refused>), PortError> {
        let mut drops = ByPort::new();
        let any = |reason| (ANY_PORT.to_owned(), reason);
        let Some(punt) = &self.punt else { return Ok((drops, Vec::new())) };
        let (unnamed, refused) = self.refused()?;
        for counter in Counter::ALL {
            let Some(reason) = reason(counter) else { continue };
            let mut packets = match counter {
                Counter::DropEntry => unnamed,
                _ => punt.cache.lock().count(counter).map_err(PuntError::from)?,
            };
            if counter == Counter::DropLimit {
                for (port, record) in &self.records {
                    let refused = punt.refused(record.id)?;
                    packets = packets.saturating_sub(refused);
                    drops.insert((port.clone(), reason), refused);
                }
            }
            *drops.entry(any(reason)).or_default() += packets;
        }
        for kernel in self.socket_statistics(PortId::PUNT)? {
            // what there was no frame for is among what was dropped for other reasons than the ring
            let too_long = kernel.rx_dropped.saturating_sub(kernel.rx_fill_ring_empty);
            for (reason, packets) in [
                (Reason::PuntFull, kernel.rx_ring_full),
                (Reason::NoFrame, kernel.rx_fill_ring_empty),
                (Reason::TruncatedFrame, too_long),
            ] {
                *drops.entry(any(reason)).or_default() += packets;
            }
        }
        drops.retain(|_, packets| *packets > 0);
        Ok((drops, refused))
    }

    /// What entries dropped for stages that are known by name, behind what they dropped for others.
    fn refused(&self) -> Result<(u64, Vec<Refused>), PortError> {
        let (mut unnamed, mut refused) = (0, Vec::new());
        let Some(punt) = &self.punt else { return Ok((unnamed, refused)) };
        for (by, packets) in punt.cache.lock().refused_by().map_err(PuntError::from)? {
            match Refused::of(&by, packets) {
                Some(known) => refused.push(known),
                None => unnamed += packets,
            }
        }
        Ok((unnamed, refused))
    }
}

impl Refused {
    fn of(by: &RefusedBy, packets: u64) -> Option<Self> {
        let (name, is_own) = match by {
            RefusedBy::Unnamed => return None,
            RefusedBy::Own(name) => (name, true),
            RefusedBy::Predecessor(name) => (name, false),
        };
        Some(Self { by: Refuser::of(name)?, is_own, packets })
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
