//! How fast a link sends: a token bucket in front of it (tc-tbf(8)).

use rtnetlink::packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage, TcOption};

use crate::{Netlink, NetlinkError};

impl Netlink {
    /// Has a link send no more than so many bits a second, link-layer headers included. What is
    /// more waits for its turn, up to 50 ms or 128 KiB, and is dropped beyond.
    pub fn shape(&self, name: &str, bits_per_second: u64) -> Result<(), NetlinkError> {
        let mut message = TcMessage::with_index(self.link(name)?.index.cast_signed());
        message.header.parent = TcHandle::ROOT;
        message.attributes = vec![
            TcAttribute::Kind(BUCKET.to_owned()),
            TcAttribute::Options(options(bits_per_second)),
        ];
        self.apply(
            format_args!("limiting link `{name}` to {bits_per_second} bits per second"),
            RouteNetlinkMessage::NewQueueDiscipline(message),
            NLM_F_CREATE | NLM_F_REPLACE,
        )
    }
}

/// Whether a queueing discipline decides how fast a link sends.
pub(crate) fn is_shaper(discipline: &str) -> bool {
    [BUCKET, "htb", "hfsc", "cake"].contains(&discipline)
}

/// `TCA_OPTIONS` of a token bucket (include/uapi/linux/pkt_sched.h).
fn options(bits_per_second: u64) -> Vec<TcOption> {
    let rate = (bits_per_second / 8).max(1);
    let depth = (rate / PER_10_MS).clamp(LEAST_DEPTH, MOST_DEPTH);
    let waiting = (rate / PER_50_MS).clamp(LEAST_WAITING, u64::from(u32::MAX) / 2);

    // tc_tbf_qopt: two tc_ratespec, of which the second is for a peak rate, and the queue's limit;
    // the bucket's depth and packets' size, in the kernel's ticks, are stated in bytes below
    let mut parameters = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    parameters.extend(u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    parameters.extend([0; 12]);
    parameters.extend(((waiting + depth) as u32).to_ne_bytes());
    parameters.extend([0; 8]);
    [(PARAMETERS, parameters), (RATE_64, rate.to_ne_bytes().to_vec())]
        .into_iter()
        // a rate of 32 bits is stated once
        .filter(|(kind, _)| *kind != RATE_64 || rate > u64::from(u32::MAX))
        .chain([(BURST, (depth as u32).to_ne_bytes().to_vec())])
        .map(|(kind, value)| TcOption::Other(DefaultNla::new(kind, value)))
        .collect()
}

const BUCKET: &str = "tbf";

/// `TCA_TBF_PARMS`.
const PARAMETERS: u16 = 1;
/// `TCA_TBF_RATE64`.
const RATE_64: u16 = 4;
/// `TCA_TBF_BURST`.
const BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: the kernel works without a table of rates.
const ETHERNET: u8 = 1;

const PER_10_MS: u64 = 100;
const PER_50_MS: u64 = 20;
/// What may be sent at once, in bytes: some frames of any Ethernet.
const LEAST_DEPTH: u64 = 16 << 10;
const MOST_DEPTH: u64 = 1 << 20;
/// What may wait, in bytes: two of TCP's super-packets.
const LEAST_WAITING: u64 = 128 << 10;
