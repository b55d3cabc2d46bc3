//! Filters of captures: whatever the text is, it is an expression or it is not; and what an
//! expression needs, every packet has that it means.

use millrace_abi::Slot;
use millrace_dataplane::capture::Expression;
use millrace_parse::parse;
use millrace_wire::IpProtocol;

/// Takes `input` for the text of an expression and, behind a line feed, a frame.
///
/// # Panics
/// If an expression breaks its word.
pub fn run(input: &[u8]) {
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
    let (text, frame) = input.split_at(end);
    let Ok(text) = str::from_utf8(text) else { return };
    let Ok(expression) = text.parse::<Expression>() else { return };
    let mut slot = Slot::ZERO;
    if parse(frame.get(1..).unwrap_or_default(), &mut slot).is_err() {
        return;
    }
    let meant = expression.matches(&slot);
    let opposite: Expression = format!("not ({text})").parse().unwrap_or_else(|_| {
        // an empty text means all packets, and nothing can be put into parentheses; a long or deep
        // one may be too long or too deep then
        expression.clone()
    });
    if opposite != expression {
        assert_ne!(opposite.matches(&slot), meant, "{text}");
    }
    if !meant {
        return;
    }
    let needs = expression.needs();
    assert!(needs.protocol.is_none_or(|protocol| protocol == slot.protocol), "{text}");
    assert!(
        needs.port.is_none_or(|port| {
            IpProtocol(slot.protocol).has_ports() && [slot.src_port, slot.dst_port].contains(&port)
        }),
        "{text}"
    );
    let within = |address: &[u8; 16]| {
        needs.prefix.is_none_or(|prefix| {
            let masked = u128::from_be_bytes(*address) & u128::from_be_bytes(prefix.mask);
            masked == u128::from_be_bytes(prefix.address)
        })
    };
    assert!(within(&slot.src_addr) || within(&slot.dst_addr), "{text}");
}
