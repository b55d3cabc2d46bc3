//! Messages that resolvers send over TCP (RFC 7766), out of the segments that carry them.
//!
//! ```text
//! pod ──SYN────────► resolver   opening: number that acknowledges it → who opens     for 10 s
//! pod ◄──SYN, ACK─── resolver   streams: both ends → number of the next octet        for 2 min
//! pod ◄──segment──── resolver   a message that goes on in the next segment waits here
//! ```
//!
//! A reader must not break this: where a message begins is known by counting from the SYN alone. What
//! is in the middle of an answer may be a text of whoever has some name, and read as a message it
//! would teach what that one likes. So a stream that has a gap is read no more; and what waits goes on
//! with the octet that it ends before, and no other.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use millrace_filter::prelude::*;
use millrace_filter::record::Port;
use millrace_filter::wire::dns::Framed;
use millrace_filter::wire::tcp::{Flags, Segment};

/// What is known of streams, by every worker of the node; and what waits, by this one.
pub(crate) struct Streams {
    opening: Map<Opening, Opener>,
    streams: Map<Ends, Stream>,
    waiting: VecDeque<Waiting>,
    unread: Counter,
}

/// A connection that a pod opens: the number by which that is acknowledged.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opening {
    acknowledged: u32,
}

/// The pod. Its port comes first, as in [`Stream`]: the maps' quotas go by it.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Opener {
    ingress: Port,
}

/// Both ends of a stream, as its segments have them.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    destination_port: u16,
}

/// How far a stream was read.
#[derive(Record, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stream {
    ingress: Port,
    /// Octets of the last message that are still to come.
    missing: u16,
    next: u32,
}

/// A message that is not whole.
struct Waiting {
    of: Ends,
    ingress: Port,
    /// The number of the octet that it ends before.
    next: u32,
    octets: Vec<u8>,
}

impl Streams {
    /// Opens the maps.
    pub(crate) fn open(setup: &mut Setup) -> Result<Self, Error> {
        let opening = MapOptions::new(STREAMS).ttl(OPENED_WITHIN).quota(STREAMS_PER_PORT);
        let streams = MapOptions::new(STREAMS).ttl(IDLE).quota(STREAMS_PER_PORT);
        Ok(Self {
            opening: setup.map(OPENING, opening)?,
            streams: setup.map(READ, streams)?,
            waiting: VecDeque::new(),
            unread: setup.counter("segments_unread")?,
        })
    }

    /// A pod sends this: has `ask` read the questions. Each is expected to be in one segment, as
    /// clients send them (RFC 7766 section 8).
    pub(crate) fn ask(&self, slot: &Slot, segment: Segment<&[u8]>, ask: impl FnMut(&[u8])) {
        let (seq, flags, payload) = (segment.seq(), segment.flags(), segment.into_payload());
        if flags.is_opening() {
            // a SYN may carry a question already (RFC 7413)
            let acknowledged = seq.wrapping_add(1).wrapping_add(payload.len() as u32);
            let opener = Opener { ingress: Port(slot.ingress) };
            // without room for it the answers will count as unread
            _ = self.opening.set(&Opening { acknowledged }, &opener);
        }
        let mut framed = Framed::new(payload);
        framed.by_ref().for_each(ask);
        if !framed.rest().is_empty() {
            self.unread.add(1);
        }
    }

    /// A resolver sends this: has `hear` read the messages that are whole now.
    pub(crate) fn hear(&mut self, slot: &Slot, segment: Segment<&[u8]>, hear: impl FnMut(&[u8])) {
        let Some(ends) = Ends::of(slot) else { return };
        let (seq, flags) = (segment.seq(), segment.flags());
        if flags.contains(Flags::SYN | Flags::ACK) {
            let opener = self.opening.get(&Opening { acknowledged: segment.ack() });
            let next = seq.wrapping_add(1);
            if let Some(Opener { ingress }) = opener {
                _ = self.streams.set(&ends, &Stream { ingress, missing: 0, next });
            }
        } else if !segment.payload().is_empty() {
            let stream = self.streams.get(&ends);
            let read = stream.and_then(|it| self.read(ends, it, seq, segment.into_payload(), hear));
            let is_kept = read.is_some_and(|read| self.streams.set(&ends, &read).is_ok());
            if !is_kept {
                self.unread.add(1);
                self.streams.remove(&ends);
            }
        }
        if flags.intersects(Flags::FIN | Flags::RST) {
            self.streams.remove(&ends);
        }
    }

    /// How far a stream is read behind a segment that begins with the octet `seq`; nothing if it
    /// cannot be read any more.
    fn read(
        &mut self,
        ends: Ends,
        stream: Stream,
        seq: u32,
        payload: &[u8],
        mut hear: impl FnMut(&[u8]),
    ) -> Option<Stream> {
        // what was sent again was read, and what goes on behind a gap cannot be
        let again = stream.next.wrapping_sub(seq);
        if again > i32::MAX as u32 {
            return None;
        }
        let Some(fresh) = payload.get(again as usize..) else { return Some(stream) };

        let (last, fresh) = fresh.split_at(fresh.len().min(stream.missing.into()));
        if stream.missing > 0 {
            let is_whole = last.len() == usize::from(stream.missing);
            let waiting = self.take(&ends, stream.next);
            if waiting.is_none() && is_whole {
                // it was too long, or another instance of the filter has what was before
                self.unread.add(1);
            }
            if let Some(mut message) = waiting {
                message.octets.extend_from_slice(last);
                message.next = stream.next.wrapping_add(last.len() as u32);
                match is_whole {
                    true => hear(&message.octets),
                    false => self.waiting.push_back(message),
                }
            }
        }
        let mut framed = Framed::new(fresh);
        framed.by_ref().for_each(hear);

        let next = stream.next.wrapping_add((last.len() + fresh.len()) as u32);
        let missing = stream.missing - last.len() as u16;
        let Some((len, begun)) = framed.rest().split_first_chunk() else {
            // a length that is cut is too rare to be put together
            return framed.rest().is_empty().then_some(Stream { next, missing, ..stream });
        };
        let len = u16::from_be_bytes(*len);
        self.begin(Waiting { of: ends, ingress: stream.ingress, next, octets: begun.into() }, len);
        Some(Stream { next, missing: len - begun.len() as u16, ..stream })
    }

    /// Has a message of `len` octets wait for the rest of it, unless it is too long.
    fn begin(&mut self, message: Waiting, len: u16) {
        if usize::from(len) > MOST_OF_A_MESSAGE {
            return;
        }
        // what one pod asks for leaves room for others
        let is_its = |it: &Waiting| it.ingress == message.ingress;
        let oldest = match self.waiting.iter().filter(|it| is_its(it)).count() {
            MOST_WAITING_OF_A_PORT.. => self.waiting.iter().position(is_its),
            _ => (self.waiting.len() == MOST_WAITING).then_some(0),
        };
        if let Some(at) = oldest {
            self.waiting.remove(at);
        }
        self.waiting.push_back(message);
    }

    /// What waits for the octet `next` of a stream. What waits for another one of it waits in vain:
    /// another instance of the filter has read on.
    fn take(&mut self, ends: &Ends, next: u32) -> Option<Waiting> {
        let at = self.waiting.iter().position(|it| it.of == *ends)?;
        self.waiting.remove(at).filter(|it| it.next == next)
    }
}

impl Ends {
    fn of(slot: &Slot) -> Option<Self> {
        let (source_port, destination_port) = (slot.src_port, slot.dst_port);
        let (source, destination) = slot.source().zip(slot.destination())?;
        Some(Self { source, destination, source_port, destination_port })
    }
}

/// The map of connections that are opened.
pub(crate) const OPENING: &str = "opening";
/// The map of streams.
pub(crate) const READ: &str = "streams";
const STREAMS: u32 = 1 << 14;
const STREAMS_PER_PORT: u32 = 1 << 8;
/// Clients send their SYN anew after less.
const OPENED_WITHIN: Duration = Duration::from_secs(10);
/// Servers close connections that idle for longer, and sooner than that.
const IDLE: Duration = Duration::from_secs(120);
/// Octets of a message that is put together: 500 IPv4 addresses of a name, or 290 of IPv6.
const MOST_OF_A_MESSAGE: usize = 8 << 10;
/// Messages that wait for the rest of them.
const MOST_WAITING: usize = 64;
const MOST_WAITING_OF_A_PORT: usize = 8;
