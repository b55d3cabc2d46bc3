//! The life of a TCP connection as somebody in the middle sees it, who knows flags but not
//! sequence numbers: nf_conntrack_proto_tcp's table, row by row.
//!
//! ```text
//!            SYN          SYN-ACK            ACK            FIN          ACK             FIN
//!  (nothing) ──► SynSent ◄──────► SynReceived ──► Established ──► FinWait ──► CloseWait ──► LastAck
//!                   │ SYN back                        │ RST                                    │ ACK
//!                   ▼                                 ▼                                        ▼
//!               SynSent2 ──SYN-ACK──► SynReceived   Reset ──goes on──► Established          TimeWait
//! ```
//! It differs in one thing: who resets an established connection and then goes on sending, did
//! not send that RST (RFC 5961 section 3), so the connection is established again.

use millrace_wire::tcp::Flags;

use super::Direction;

/// How far a connection has come. Who opened it and who closes it may be either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// Entered by a SYN; from TimeWait and Close, by way of a new connection.
    SynSent,
    /// Both sent a SYN: entered from SynSent.
    SynSent2,
    /// Entered from SynSent and SynSent2 by a SYN-ACK.
    SynReceived,
    /// Entered from SynReceived by an ACK, and from Reset.
    Established,
    /// Entered from SynReceived and Established by a FIN.
    FinWait,
    /// Entered from FinWait by an ACK.
    CloseWait,
    /// Entered from FinWait and CloseWait by a FIN.
    LastAck,
    /// Entered from LastAck by an ACK.
    TimeWait,
    /// Entered from Established by an RST from this side.
    Reset(Direction),
    /// Entered from all others by an RST.
    Close,
}

/// What a packet does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The connection is in this state now.
    To(TcpState),
    /// The packet may pass, and says nothing about the connection: the receiver will judge it.
    Ignored,
    /// No packet that follows the protocol is like this.
    Invalid,
    /// The packet opens another connection with the same addresses and ports.
    Afresh,
}

/// What of a packet's flags counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Syn,
    SynAck,
    Fin,
    Ack,
    Rst,
}

impl TcpState {
    /// What a packet with `flags` does, if it goes in this direction.
    pub fn step(self, direction: Direction, flags: Flags) -> Step {
        Segment::of(flags).map_or(Step::Invalid, |segment| self.after(direction, segment))
    }

    /// Whether the handshake is over.
    pub const fn is_synchronised(self) -> bool {
        !matches!(self, Self::SynSent | Self::SynSent2 | Self::SynReceived | Self::Close)
    }

    /// Whether the connection is over, so that a SYN opens another one.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::TimeWait | Self::Reset(_) | Self::Close)
    }

    /// The name that conntrack has for it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynSent2 => "SYN_SENT2",
            Self::SynReceived => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Reset(_) | Self::Close => "CLOSE",
        }
    }

    pub(super) fn after(self, direction: Direction, segment: Segment) -> Step {
        match segment {
            Segment::Rst => Step::To(self.after_rst(direction)),
            Segment::Syn => self.after_syn(direction),
            Segment::SynAck => self.after_syn_ack(direction),
            Segment::Fin => self.after_fin(direction),
            Segment::Ack => self.after_ack(direction),
        }
    }

    fn after_syn(self, direction: Direction) -> Step {
        match (self, direction) {
            (Self::SynSent, Direction::Original) => Step::To(Self::SynSent),
            (Self::SynSent, Direction::Reply) => Step::To(Self::SynSent2),
            (Self::SynSent2, _) => Step::To(Self::SynSent2),
            (Self::TimeWait | Self::Reset(_) | Self::Close, _) => Step::Afresh,
            // a peer that knows the connection challenges it (RFC 9293 section 3.10.7.4), one that
            // does not opens another one with the same translation
            (_, Direction::Original) => Step::Ignored,
            (_, Direction::Reply) => Step::Invalid,
        }
    }

    fn after_syn_ack(self, direction: Direction) -> Step {
        match (self, direction) {
            (Self::SynSent2, _) | (Self::SynSent, Direction::Reply) => Step::To(Self::SynReceived),
            (Self::SynReceived, Direction::Original) => Step::To(Self::SynReceived),
            (_, Direction::Original) => Step::Invalid,
            (_, Direction::Reply) => Step::Ignored,
        }
    }

    fn after_fin(self, direction: Direction) -> Step {
        match self {
            Self::SynSent | Self::SynSent2 => Step::Invalid,
            Self::SynReceived | Self::Established => Step::To(Self::FinWait),
            Self::FinWait | Self::CloseWait | Self::LastAck => Step::To(Self::LastAck),
            Self::Reset(by) if by == direction => Step::To(Self::FinWait),
            over => Step::To(over),
        }
    }

    fn after_ack(self, direction: Direction) -> Step {
        match (self, direction) {
            (Self::SynSent | Self::SynSent2, Direction::Original) => Step::Invalid,
            (Self::SynSent | Self::SynSent2, Direction::Reply) => Step::Ignored,
            (Self::SynReceived, Direction::Reply) => Step::To(Self::SynReceived),
            (Self::SynReceived | Self::Established, _) => Step::To(Self::Established),
            (Self::FinWait | Self::CloseWait, _) => Step::To(Self::CloseWait),
            (Self::LastAck | Self::TimeWait, _) => Step::To(Self::TimeWait),
            (Self::Reset(by), _) if by == direction => Step::To(Self::Established),
            (over @ (Self::Reset(_) | Self::Close), _) => Step::To(over),
        }
    }

    fn after_rst(self, direction: Direction) -> Self {
        match self {
            Self::Established => Self::Reset(direction),
            Self::Reset(by) => Self::Reset(by),
            _ => Self::Close,
        }
    }
}

impl Segment {
    /// Nothing where the flags contradict each other, as conntrack sees it.
    pub(super) fn of(flags: Flags) -> Option<Self> {
        let syn = flags.contains(Flags::SYN);
        let fin = flags.contains(Flags::FIN);
        let ack = flags.contains(Flags::ACK);
        match (flags.contains(Flags::RST), syn, fin) {
            (true, false, false) => Some(Self::Rst),
            (false, true, false) if ack => Some(Self::SynAck),
            (false, true, false) => Some(Self::Syn),
            (false, false, true) if ack => Some(Self::Fin),
            (false, false, false) if ack => Some(Self::Ack),
            _ => None,
        }
    }
}
