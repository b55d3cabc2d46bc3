//! From what a guest wrote to what the host does: every field of a decision is
//! checked against the contract and the filter's capabilities, and only then applied,
//! all of it or nothing.

use millrace_abi::{
    Capability, CapabilitySet, Control, Decision, Field, FieldSet, NO_PORT, Origin, Reason, Slot,
    Tag, limits,
};

use crate::verdict::{Decider, Terms, Verdict};

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// The control is none.
    #[error("control {0} does not exist")]
    Control(u8),
    /// Fields that mean nothing.
    #[error("field bits {0:#06x} mean nothing")]
    Fields(u16),
    /// Two fields that exclude each other.
    #[error("`{0}` and `{1}` exclude each other")]
    Conflict(&'static str, &'static str),
    /// Something it may not.
    #[error("it states `{0}` without the capability `{1}`")]
    Capability(&'static str, &'static str),
    /// A reason that is none, or not a filter's.
    #[error("reason {0} is not one that filters may state")]
    Reason(u16),
    /// A port that cannot be.
    #[error("port {0} cannot exist")]
    Port(u16),
    /// Too many tags.
    #[error("{0} tags are more than {limit}", limit = limits::MAX_TAGS)]
    Tags(u8),
    /// It asks for packets, and has no hook to show them to.
    #[error("it asks for packets and has no packet hook")]
    NoPacketHook,
    /// A packet verdict that does not exist.
    #[error("packet verdict {0} does not exist")]
    PacketVerdict(u8),
    /// Packet flags that mean nothing.
    #[error("packet flags {0:#04x} mean nothing")]
    PacketFlags(u8),
    /// A length that a packet cannot get.
    #[error("a packet cannot get the length {0}")]
    Length(u32),
    /// What it made of a packet is malformed.
    #[error("the packet it leaves is malformed: {reason}", reason = .0.help())]
    Malformed(Reason),
    /// It moved a packet to another VLAN.
    #[error("the packet it leaves is in VLAN {0}, and came in another one")]
    Vlan(u16),
}

/// What of a stage decides whether its answers are right.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    /// What it may do.
    pub capabilities: CapabilitySet,
    /// Whether it has a packet hook.
    pub sees_packets: bool,
}

impl Rights {
    /// What answers may state.
    #[inline]
    fn fields(self) -> FieldSet {
        let mut fields = FREE;
        for (capability, its) in BOUND {
            if self.capabilities.contains(capability) {
                fields = FieldSet::from_bits(fields.bits() | its.bits());
            }
        }
        if self.sees_packets { fields } else { fields.without(Field::Inspect) }
    }

    /// Why an answer may not state a field.
    #[cold]
    fn refusal(self, field: Field) -> BadAnswer {
        match capability_for(field) {
            Some(capability) if !self.capabilities.contains(capability) => {
                BadAnswer::Capability(field.label(), capability.label())
            }
            _ => BadAnswer::NoPacketHook,
        }
    }
}

/// What a filter has to be allowed in order to state a field.
const fn capability_for(field: Field) -> Option<Capability> {
    match field {
        Field::Egress | Field::Flood | Field::NextHop | Field::DecrementTtl => {
            Some(Capability::Redirect)
        }
        Field::To | Field::As | Field::Masquerade | Field::PickAgain => Some(Capability::Translate),
        Field::Inspect => Some(Capability::Inspect),
        Field::Idle | Field::Revalidate | Field::Once => None,
    }
}

/// The fields that need this.
const fn fields_for(capability: Option<Capability>) -> FieldSet {
    let (mut fields, mut at) = (FieldSet::EMPTY, 0);
    while at < Field::ALL.len() {
        let field = Field::ALL[at];
        let is_for = match (capability_for(field), capability) {
            (Some(needed), Some(capability)) => needed as u32 == capability as u32,
            (None, None) => true,
            _ => false,
        };
        if is_for {
            fields = fields.with(field);
        }
        at += 1;
    }
    fields
}

/// Fields that anybody may state.
const FREE: FieldSet = fields_for(None);
/// Fields that need a capability.
const BOUND: [(Capability, FieldSet); 3] = [
    (Capability::Redirect, fields_for(Some(Capability::Redirect))),
    (Capability::Translate, fields_for(Some(Capability::Translate))),
    (Capability::Inspect, fields_for(Some(Capability::Inspect))),
];

/// The stage that was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) by: Decider,
    /// Its place in the chain.
    pub(crate) position: usize,
    pub(crate) rights: Rights,
}

/// Checks what a stage decided about a slot, and applies it to the verdict, its
/// terms, and to the slot that later stages see.
///
/// # Errors
/// What is wrong; nothing is applied then.
#[inline]
pub(crate) fn apply(
    decision: &Decision,
    asked: Asked,
    slot: &mut Slot,
    verdict: &mut Verdict,
    terms: &mut Terms,
) -> Result<(), BadAnswer> {
    // most filters have nothing to say about most flows
    if decision.control == 0 && decision.fields == 0 && decision.tag_count == 0 {
        return Ok(());
    }
    let checked = check(decision, asked.rights)?;

    for &tag in &decision.tags[..usize::from(decision.tag_count)] {
        if !terms.tags.add(Tag::from_bits(tag)) {
            // a flow that depends on more than can be noted is not remembered
            verdict.fields = verdict.fields.with(Field::Once);
        }
    }
    let Asked { by, position, .. } = asked;
    match checked {
        Checked::Ends(control, reason) => {
            *verdict =
                Verdict { control, by, reason: Some(reason), rule: decision.rule, ..*verdict };
            terms_of(decision, position, verdict, terms);
        }
        Checked::Fields(fields) => {
            // to go one way ends having been told to go the other
            let away = FieldSet::EMPTY.with(Field::Egress).with(Field::Flood);
            if fields.contains(Field::Egress) || fields.contains(Field::Flood) {
                verdict.fields = verdict.fields.minus(away);
                verdict.egress = match fields.contains(Field::Egress) {
                    true => decision.egress,
                    false => NO_PORT,
                };
                verdict.by = by;
                verdict.rule = decision.rule;
            }
            // so it is for the source
            let sources = FieldSet::EMPTY.with(Field::As).with(Field::Masquerade);
            if fields.contains(Field::As) || fields.contains(Field::Masquerade) {
                verdict.fields = verdict.fields.minus(sources);
            }
            verdict.fields = FieldSet::from_bits(verdict.fields.bits() | fields.bits());
            if fields.contains(Field::Inspect) && decision.inspect > 0 {
                verdict.inspect |= 1 << position;
            }
            terms_of(decision, position, verdict, terms);
            show(decision, fields, slot, verdict);
        }
    }
    Ok(())
}

enum Checked {
    Ends(Control, Reason),
    Fields(FieldSet),
}

fn check(decision: &Decision, rights: Rights) -> Result<Checked, BadAnswer> {
    let control = Control::from_u8(decision.control).ok_or(BadAnswer::Control(decision.control))?;
    let fields = decision.stated();
    let unknown = fields.minus(FieldSet::KNOWN);
    if !unknown.is_empty() {
        return Err(BadAnswer::Fields(unknown.bits()));
    }
    if usize::from(decision.tag_count) > limits::MAX_TAGS {
        return Err(BadAnswer::Tags(decision.tag_count));
    }

    for (a, b) in [(Field::Egress, Field::Flood), (Field::As, Field::Masquerade)] {
        if fields.contains(a) && fields.contains(b) {
            return Err(BadAnswer::Conflict(a.label(), b.label()));
        }
    }
    // one look for all of them: who is refused is asked which one it was
    if let Some(field) = fields.minus(rights.fields()).iter().next() {
        return Err(rights.refusal(field));
    }
    if fields.contains(Field::Egress) && !(1..=limits::MAX_PORT).contains(&decision.egress) {
        return Err(BadAnswer::Port(decision.egress));
    }

    let capability = match control {
        Control::Continue => return Ok(Checked::Fields(fields)),
        Control::Drop => Capability::Drop,
        Control::Reject => Capability::Reject,
    };
    if !rights.capabilities.contains(capability) {
        return Err(BadAnswer::Capability(control.label(), capability.label()));
    }
    let reason =
        Reason::stated_by_filter(decision.reason).ok_or(BadAnswer::Reason(decision.reason))?;
    Ok(Checked::Ends(control, reason))
}

/// Takes over for how long the verdict is remembered.
fn terms_of(decision: &Decision, position: usize, verdict: &mut Verdict, terms: &mut Terms) {
    let fields = decision.stated();
    // of several stages, the most cautious one counts
    if fields.contains(Field::Idle) {
        terms.idle_ms = terms.idle_ms.min(decision.idle_ms);
    }
    if fields.contains(Field::Revalidate) {
        terms.revalidate_ms = match terms.revalidate_ms {
            0 => decision.revalidate_ms.max(1),
            present => present.min(decision.revalidate_ms.max(1)),
        };
    }
    if fields.contains(Field::Inspect) {
        terms.inspect_left[position] = decision.inspect;
    }
    if fields.contains(Field::Once) {
        verdict.fields = verdict.fields.with(Field::Once);
    }
}

/// Lets later stages see what is decided.
fn show(decision: &Decision, fields: FieldSet, slot: &mut Slot, verdict: &Verdict) {
    slot.decided = verdict.fields.bits();
    slot.egress = verdict.egress;
    // a live flow keeps its translation, unless it is to have another one
    if slot.origin == Origin::Redecide as u8 && !fields.contains(Field::PickAgain) {
        return;
    }
    let port = |stated: u16, present: u16| if stated == 0 { present } else { stated };
    if fields.contains(Field::To) {
        slot.to_addr = decision.to_addr;
        slot.to_port = port(decision.to_port, slot.dst_port);
    }
    if fields.contains(Field::As) {
        slot.as_addr = decision.as_addr;
        slot.as_port = port(decision.as_port, slot.src_port);
    }
    if fields.contains(Field::Masquerade) {
        (slot.as_addr, slot.as_port) = ([0; 16], 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Rights = Rights { capabilities: CapabilitySet::ALL, sees_packets: true };

    fn applied(decisions: &[Decision]) -> (Verdict, Terms, Slot) {
        let (mut verdict, mut terms, mut slot) = (Verdict::OPEN, Terms::DEFAULT, Slot::ZERO);
        for (position, decision) in decisions.iter().enumerate() {
            let asked = Asked { by: Decider::stage(position as u8 + 1), position, rights: ALL };
            apply(decision, asked, &mut slot, &mut verdict, &mut terms)
                .unwrap_or_else(|error| panic!("{decision:?}: {error}"));
        }
        (verdict, terms, slot)
    }

    fn decide(build: impl FnOnce(&mut Decision) -> &mut Decision) -> Decision {
        let mut decision = Decision::ZERO;
        build(&mut decision);
        decision
    }

    #[test]
    fn a_later_stage_replaces_where_a_packet_goes_and_keeps_the_rest() {
        let (verdict, terms, slot) = applied(&[
            decide(|d| d.flood().revalidate_after(500).by_rule(3)),
            decide(|d| d.egress(7).revalidate_after(900).idle_after(1000).inspect(4).by_rule(5)),
            Decision::ZERO,
        ]);
        assert!(verdict.fields.contains(Field::Egress) && !verdict.fields.contains(Field::Flood));
        assert_eq!((verdict.egress, verdict.rule, verdict.by), (7, 5, Decider::stage(2)));
        assert_eq!((terms.revalidate_ms, terms.idle_ms), (500, 1000));
        assert_eq!((verdict.inspect, terms.inspect_left[1]), (0b10, 4));
        assert_eq!((slot.egress, slot.decided), (7, verdict.fields.bits()));
    }

    #[test]
    fn a_live_flow_keeps_its_translation_unless_it_is_to_pick_again() {
        let (backend, other) = ([9; 16], std::net::IpAddr::from([8; 16]));
        let live = Slot { origin: Origin::Redecide as u8, to_addr: backend, ..Slot::ZERO };
        let shown = |decision: &Decision| {
            let (mut verdict, mut terms, mut slot) = (Verdict::OPEN, Terms::DEFAULT, live);
            let asked = Asked { by: Decider::stage(1), position: 0, rights: ALL };
            apply(decision, asked, &mut slot, &mut verdict, &mut terms).unwrap();
            (slot.to_addr, slot.has(Field::To))
        };
        assert_eq!(shown(&decide(|d| d.translate_destination(other, 80))), (backend, true));
        let again = decide(|d| d.translate_destination(other, 80).pick_again());
        assert_eq!(shown(&again), ([8; 16], true));
    }

    #[test]
    fn a_drop_keeps_its_reason_rule_and_stage() {
        let (verdict, ..) =
            applied(&[decide(|d| d.egress(7)), decide(|d| d.drop(Reason::RateLimited).by_rule(2))]);
        assert_eq!(verdict.control, Control::Drop);
        assert_eq!(verdict.reason, Some(Reason::RateLimited));
        assert_eq!((verdict.by, verdict.rule), (Decider::stage(2), 2));
    }

    #[test]
    fn tags_add_up_and_too_many_make_a_flow_forgettable() {
        let tags = |from: u32| {
            decide(|d| {
                for id in from..from + 5 {
                    d.depends_on(Tag::new(millrace_abi::TagKind::Service, id));
                }
                d
            })
        };
        let (verdict, terms, _) = applied(&[tags(0), tags(2)]);
        assert_eq!(terms.tags.iter().count(), 7);
        assert!(!verdict.fields.contains(Field::Once));
        let (verdict, ..) = applied(&[tags(0), tags(5)]);
        assert!(verdict.fields.contains(Field::Once));
    }

    #[test]
    fn each_answer_that_is_wrong_is_refused_whole() {
        let none = Rights { capabilities: CapabilitySet::EMPTY, sees_packets: false };
        let blind = Rights { sees_packets: false, ..ALL };
        for (rights, decision, expected) in [
            (ALL, Decision { control: 9, ..Decision::ZERO }, BadAnswer::Control(9)),
            (
                ALL,
                Decision { fields: 0x8001, egress: 1, ..Decision::ZERO },
                BadAnswer::Fields(0x8000),
            ),
            (ALL, Decision { tag_count: 9, ..Decision::ZERO }, BadAnswer::Tags(9)),
            (ALL, Decision { control: 1, reason: 64, ..Decision::ZERO }, BadAnswer::Reason(64)),
            (ALL, Decision { control: 1, reason: 9999, ..Decision::ZERO }, BadAnswer::Reason(9999)),
            (ALL, decide(|d| d.egress(0)), BadAnswer::Port(0)),
            (ALL, decide(|d| d.egress(4095)), BadAnswer::Port(4095)),
            (
                ALL,
                Decision { fields: 3, egress: 1, ..Decision::ZERO },
                BadAnswer::Conflict("egress", "flood"),
            ),
            (none, decide(|d| d.drop(Reason::Denied)), BadAnswer::Capability("drop", "drop")),
            (none, decide(|d| d.reject(Reason::Denied)), BadAnswer::Capability("reject", "reject")),
            (none, decide(|d| d.egress(1)), BadAnswer::Capability("egress", "redirect")),
            (none, decide(|d| d.masquerade()), BadAnswer::Capability("masquerade", "translate")),
            (none, decide(|d| d.inspect(1)), BadAnswer::Capability("inspect", "inspect")),
            (blind, decide(|d| d.inspect(1)), BadAnswer::NoPacketHook),
        ] {
            let (mut verdict, mut terms, mut slot) = (Verdict::OPEN, Terms::DEFAULT, Slot::ZERO);
            let asked = Asked { by: Decider::stage(1), position: 0, rights };
            let outcome = apply(&decision, asked, &mut slot, &mut verdict, &mut terms);
            assert_eq!(outcome, Err(expected));
            assert_eq!((verdict, terms, slot), (Verdict::OPEN, Terms::DEFAULT, Slot::ZERO));
        }
    }
}
