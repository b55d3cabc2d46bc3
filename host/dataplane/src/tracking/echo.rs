//! Echoes that pods ask for from the node's own address. By an uplink their answers come with those
//! to the host's, and the kernel has to know whose they are.

use std::net::IpAddr;

use millrace_fastpath::{FlowCache, MapFault};
use millrace_wire::IpProtocol;
use parking_lot::Mutex;

use crate::connections::{Key, Zone};

/// Has answers with this key come here, if they are to an echo.
pub(super) fn expect(cache: &Mutex<FlowCache>, reply: &Key) {
    if let Some((peer, identifier)) = asked(reply)
        && let Err(error) = cache.lock().expect_echo(peer, identifier)
    {
        tracing::error!(%error, "the answer to an echo will be the host's");
    }
}

/// Leaves answers to the echo of a connection that is over to the host again.
pub(super) fn forget(cache: &Mutex<FlowCache>, keys: &[Key; 2]) -> Result<(), MapFault> {
    keys.iter()
        .filter_map(asked)
        .try_for_each(|(peer, identifier)| cache.lock().forget_echo(peer, identifier))
}

/// Who is asked for an echo with which identifier, if packets with the key are answers from the
/// underlay.
fn asked(key: &Key) -> Option<(IpAddr, u16)> {
    let is_echo = matches!(IpProtocol(key.protocol), IpProtocol::ICMPV4 | IpProtocol::ICMPV6);
    (is_echo && key.zone == Zone::UNDERLAY).then(|| (key.source.ip(), key.source.port))
}
