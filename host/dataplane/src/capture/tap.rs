//! What a worker copies packets with, and where the copies come out.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use millrace_abi::{Field, Slot};

use super::{Captured, Carrier, Expression};
use crate::counters::Fate;
use crate::port::add;
use crate::verdict::{Decider, Verdict};

/// Which packets are copied, and how much of each.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Those that are meant.
    pub(crate) expression: Expression,
    /// Of these, those that came in by one of these ports; by any, if there are none.
    pub(crate) ports: Option<BTreeSet<u16>>,
    /// So many bytes of each.
    pub(crate) snap: usize,
}

/// A worker's end.
pub(crate) struct Tap {
    wanted: Arc<Wanted>,
    full: SyncSender<Batch>,
    empty: Receiver<Batch>,
    /// The one that is being filled.
    batch: Option<Batch>,
    /// Packets that no buffer was free for.
    lost: Arc<AtomicU64>,
    /// Whether the packet at hand has been copied, and waits for its fate.
    at_hand: bool,
}

/// Copies of some packets.
#[derive(Debug)]
pub(crate) struct Batch {
    records: Vec<Record>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    time_ns: u64,
    len: u32,
    port: u16,
    egress: u16,
    rule: u32,
    fate: Fate,
    by: Decider,
    carrier: Carrier,
    /// Where its bytes end.
    end: usize,
}

/// The other end: batches come out of the first, and go back into the second when they are read.
pub(crate) type Outlet = (Receiver<Batch>, SyncSender<Batch>);

/// A tap of one worker.
pub(crate) fn tap(wanted: Arc<Wanted>, lost: Arc<AtomicU64>) -> (Tap, Outlet) {
    let (full, filled) = sync_channel(BATCHES);
    let (emptied, empty) = sync_channel(BATCHES);
    for _ in 0..BATCHES {
        let batch =
            Batch { records: Vec::with_capacity(RECORDS), bytes: Vec::with_capacity(BYTES) };
        emptied.try_send(batch).expect("there is room for as many");
    }
    let tap = Tap { wanted, full, empty, batch: None, lost, at_hand: false };
    (tap, (filled, emptied))
}

impl Tap {
    /// Whether it is there for these.
    pub(crate) fn is_of(&self, wanted: &Arc<Wanted>) -> bool {
        Arc::ptr_eq(&self.wanted, wanted)
    }

    /// Copies a packet if it is wanted; what becomes of it is yet to be said.
    pub(crate) fn offer(&mut self, slot: &Slot, frame: &[u8], verdict: &Verdict, asked: bool) {
        let wanted = &self.wanted;
        let here = wanted.ports.as_ref().is_none_or(|ports| ports.contains(&slot.ingress));
        self.at_hand = here && wanted.expression.matches(slot);
        if !self.at_hand {
            return;
        }
        let copied = &frame[..frame.len().min(wanted.snap)];
        if self.batch.as_ref().is_some_and(|batch| !batch.has_room(copied.len())) {
            self.flush();
        }
        if self.batch.is_none() {
            self.batch = self.empty.try_recv().ok();
        }
        let Some(batch) = &mut self.batch else {
            self.at_hand = false;
            return add(&self.lost, 1);
        };
        batch.bytes.extend_from_slice(copied);
        let leads = verdict.is_open() && verdict.fields.contains(Field::Egress);
        batch.records.push(Record {
            time_ns: slot.now_ns,
            len: frame.len() as u32,
            port: slot.ingress,
            egress: if leads { verdict.egress } else { 0 },
            rule: verdict.rule,
            fate: Fate::Forwarded,
            by: verdict.by,
            carrier: if asked { Carrier::Asked } else { Carrier::Remembered },
            end: batch.bytes.len(),
        });
    }

    /// Says what became of the packet that was offered last.
    pub(crate) fn settle(&mut self, fate: Fate, by: Decider) {
        if std::mem::take(&mut self.at_hand)
            && let Some(record) = self.batch.as_mut().and_then(|batch| batch.records.last_mut())
        {
            (record.fate, record.by) = (fate, by);
            // what the host found wrong on the way out is no rule's doing
            if by == Decider::HOST {
                record.rule = 0;
            }
            if fate != Fate::Forwarded {
                record.egress = 0;
            }
        }
    }

    /// Hands over what has been copied.
    pub(crate) fn flush(&mut self) {
        let Some(batch) = self.batch.take_if(|batch| !batch.records.is_empty()) else { return };
        // there is room for all that there are; who does not look on any more gets nothing
        let _ = self.full.try_send(batch);
    }
}

impl Batch {
    fn has_room(&self, bytes: usize) -> bool {
        self.records.len() < RECORDS && self.bytes.len() + bytes <= BYTES
    }

    /// The packets; the batch is empty afterwards.
    pub(crate) fn drain(&mut self) -> Vec<Captured> {
        let mut start = 0;
        let packets = self.records.drain(..).map(|record| {
            let frame = self.bytes[start..record.end].to_vec();
            start = record.end;
            Captured {
                time_ns: record.time_ns,
                port: record.port,
                len: record.len,
                fate: record.fate,
                by: record.by,
                rule: record.rule,
                egress: record.egress,
                carrier: record.carrier,
                frame,
            }
        });
        let packets = packets.collect();
        self.bytes.clear();
        packets
    }
}

/// Batches of one tap.
const BATCHES: usize = 32;
/// Packets of a batch, at most.
const RECORDS: usize = 512;
/// Bytes of a batch, at most: more than any frame has.
const BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use millrace_abi::Reason;

    use super::*;

    fn slot(port: u16) -> Slot {
        Slot { ingress: 1, ip_version: 4, protocol: 17, dst_port: port, ..Slot::ZERO }
    }

    fn tapped(expression: &str, snap: usize) -> (Tap, Outlet, Arc<AtomicU64>) {
        let expression = expression.parse().unwrap();
        let lost = Arc::new(AtomicU64::new(0));
        let wanted = Wanted { expression, ports: None, snap };
        let (tap, outlet) = tap(Arc::new(wanted), Arc::clone(&lost));
        (tap, outlet, lost)
    }

    #[test]
    fn a_packet_that_is_meant_comes_out_with_its_fate_and_its_first_bytes() {
        let (mut tap, (filled, _), lost) = tapped("port 53", 4);
        let verdict = Verdict { by: Decider::stage(3), rule: 9, ..Verdict::OPEN };
        for port in [80, 53, 443] {
            tap.offer(&slot(port), &[7; 60], &verdict, true);
            tap.settle(Fate::Dropped(Reason::Denied), Decider::stage(3));
        }
        assert!(filled.try_recv().is_err(), "it is handed over with its burst");
        tap.flush();
        let packets = filled.try_recv().unwrap().drain();
        assert_eq!(packets.len(), 1);
        let packet = &packets[0];
        assert_eq!((packet.len, &packet.frame[..]), (60, &[7; 4][..]));
        assert_eq!((packet.fate, packet.rule), (Fate::Dropped(Reason::Denied), 9));
        assert_eq!((packet.by, packet.carrier), (Decider::stage(3), Carrier::Asked));
        assert_eq!(lost.load(Relaxed), 0);
    }

    #[test]
    fn who_does_not_keep_up_loses_packets_that_are_counted_and_gets_later_ones() {
        let (mut tap, (filled, emptied), lost) = tapped("", BYTES);
        let frame = vec![1; BYTES / 2];
        let pass = |tap: &mut Tap| {
            tap.offer(&slot(1), &frame, &Verdict::OPEN, false);
            tap.settle(Fate::Forwarded, Decider::HOST);
        };
        for _ in 0..2 * BATCHES + 5 {
            pass(&mut tap);
        }
        assert_eq!(lost.load(Relaxed), 5);
        let mut batch = filled.try_recv().unwrap();
        assert_eq!(batch.drain().len(), 2);
        emptied.try_send(batch).unwrap();
        pass(&mut tap);
        assert_eq!(lost.load(Relaxed), 5);
    }
}
