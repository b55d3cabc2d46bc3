//! Packet headers as the wire has them: views, plain-data representations and checksums.
//!
//! The host parses every packet with this crate and filters use it inside WebAssembly, so it
//! has no dependencies, allocates nothing and contains no unsafe code.
//!
//! In reading order:
//! - [`malformed`]: everything that can be wrong with a header, as one table
//! - [`mac`]: MAC addresses
//! - [`ethernet`], [`vlan`], [`arp`]: the link
//! - [`ip`]: what both IP versions share, above all where the transport header is
//! - [`ipv4`], [`ipv6`]: packets, with the walk along IPv6 extension headers
//! - [`checksum`]: sums, pseudo-headers, and edits in place
//! - [`ports`]: the port pair of TCP, UDP and SCTP
//! - [`tcp`], [`udp`], [`sctp`]: transports
//! - [`icmpv4`], [`icmpv6`]: echo, errors with the packets they quote, neighbour discovery
//! - [`vxlan`]: frames in UDP; [`dns`]: names, and who asks for them
//! - [`builder`]: whole frames in a caller's buffer
//!
//! Every protocol has two types. A **view** (`ipv4::Packet<B>`, `tcp::Segment<B>`, …) wraps a
//! buffer and reads, or with a mutable buffer writes, single fields where they lie. A **`Repr`**
//! holds the meaningful fields of a header as numbers and addresses: `parse` takes it from a
//! view, `emit` writes it to one.
//!
//! ```
//! use millrace_wire::ethernet::{EtherType, Frame};
//! use millrace_wire::ip::IpProtocol;
//! use millrace_wire::{Malformed, ipv4, udp};
//!
//! /// The payload of a UDP datagram to port 53, if that is what the frame carries.
//! fn query(frame: &[u8]) -> Result<Option<&[u8]>, Malformed> {
//!     let frame = Frame::new_checked(frame)?;
//!     if frame.ether_type() != EtherType::IPV4 {
//!         return Ok(None);
//!     }
//!     let packet = ipv4::Packet::new_checked(frame.into_payload())?;
//!     if packet.protocol() != IpProtocol::UDP || packet.is_fragment() {
//!         return Ok(None);
//!     }
//!     let datagram = udp::Datagram::new_checked(packet.into_payload())?;
//!     Ok((datagram.destination_port() == 53).then(|| datagram.into_payload()))
//! }
//! # use millrace_wire::builder::{self, Ethernet, Ip};
//! # use millrace_wire::{MacAddr, Ports};
//! # let mut buffer = [0; 64];
//! # let ethernet = Ethernet::new(MacAddr([2, 0, 0, 0, 0, 1]), MacAddr::BROADCAST);
//! # let ip = Ip::v4([10, 0, 0, 1], [10, 0, 0, 2]);
//! # let ports = Ports { source: 1024, destination: 53 };
//! # let len = builder::udp(&mut buffer, &ethernet, &ip, ports, b"name?").unwrap();
//! # assert_eq!(query(&buffer[..len]), Ok(Some(&b"name?"[..])));
//! # assert_eq!(query(&buffer[..13]), Err(Malformed::TruncatedEthernet));
//! ```
//!
//! # Panics
//! Accessors of a view that was made by `new_checked` never panic, whatever the octets are.
//! `new_unchecked` puts off the question: accessors panic where a field lies outside of the
//! buffer. A setter of a length or kind field opens the question again, and `check` answers it.
//! A panic is all that can happen: there is no unsafe code to be led astray.
//!
//! # Values
//! Numbers are in host order, and a value that is too wide for its field is cut to the field's
//! width. Reserved bits are ignored when read and zero when emitted.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod arp;
pub mod builder;
pub mod checksum;
pub mod dns;
pub mod ethernet;
pub mod icmpv4;
pub mod icmpv6;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod mac;
pub mod malformed;
pub mod ports;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod vlan;
pub mod vxlan;

mod crc32c;
mod field;
mod view;

pub use ethernet::EtherType;
pub use ip::IpProtocol;
pub use mac::MacAddr;
pub use malformed::Malformed;
pub use ports::Ports;
