//! How far a connection has come, and how long it may be silent before it is over.

use std::time::Duration;

use millrace_wire::IpProtocol;

use super::tcp::TcpState;

/// What is known of a connection from the packets seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Of TCP.
    Tcp(TcpState),
    /// Of any other protocol: nothing came back yet.
    Unreplied,
    /// Of any other protocol: both sides sent.
    Replied,
}

/// How long a connection may be silent; by default as Linux's conntrack has it, but where noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP before the handshake is over. Default 60 s (conntrack: 120 s for the first half of it).
    pub tcp_handshake: Duration,
    /// TCP that carries data. Default 24 h (conntrack: 5 days); RFC 5382 asks for 2 h 4 min.
    pub tcp_established: Duration,
    /// TCP after one FIN. Default 120 s.
    pub tcp_fin_wait: Duration,
    /// TCP after one FIN and its ACK. Default 60 s.
    pub tcp_close_wait: Duration,
    /// TCP after both FINs. Default 30 s.
    pub tcp_last_ack: Duration,
    /// TCP after all is said: for as long, the ports are not used again. Default 120 s.
    pub tcp_time_wait: Duration,
    /// TCP after an RST. Default 10 s.
    pub tcp_close: Duration,
    /// UDP and unknown protocols that nobody answered. Default 30 s.
    pub unreplied: Duration,
    /// UDP and unknown protocols that both sides speak. Default 180 s.
    pub replied: Duration,
    /// ICMP echo. Default 30 s.
    pub icmp: Duration,
    /// SCTP that both sides speak. Default 210 s.
    pub sctp: Duration,
    /// What the kernel carries, until it has no entries of it any more: the next packet comes to user
    /// space, which still knows the connection. Default 120 s.
    pub residency: Duration,
    /// The same for TCP that is over. Default 10 s, as long as conntrack knows of an RST: few packets
    /// come then, and whoever opens one connection after another would fill the kernel with them.
    pub aftermath: Duration,
}

impl State {
    /// That of a connection whose first packet is at hand.
    pub(super) fn opening(protocol: u8) -> Self {
        match IpProtocol(protocol) {
            IpProtocol::TCP => Self::Tcp(TcpState::SynSent),
            _ => Self::Unreplied,
        }
    }

    /// Whether the connection is over, so that its keys may be those of another one.
    pub const fn is_over(self) -> bool {
        matches!(self, Self::Tcp(state) if state.is_over())
    }
}

impl Timeouts {
    /// How long a connection may be silent; `settled` if both sides take part in it.
    pub fn silence(&self, protocol: u8, state: State, settled: bool) -> Duration {
        let of_state = match (state, IpProtocol(protocol)) {
            (State::Tcp(state), _) => self.tcp(state),
            (_, IpProtocol::ICMPV4 | IpProtocol::ICMPV6) => self.icmp,
            (State::Unreplied, _) => self.unreplied,
            (State::Replied, IpProtocol::SCTP) => self.sctp,
            (State::Replied, _) => self.replied,
        };
        // whatever one side claims alone, it does not live longer for it
        match state {
            State::Tcp(_) if !settled => of_state.min(self.tcp_handshake),
            _ => of_state,
        }
    }

    fn tcp(&self, state: TcpState) -> Duration {
        match state {
            TcpState::SynSent | TcpState::SynSent2 | TcpState::SynReceived => self.tcp_handshake,
            TcpState::Established => self.tcp_established,
            TcpState::FinWait => self.tcp_fin_wait,
            TcpState::CloseWait => self.tcp_close_wait,
            TcpState::LastAck => self.tcp_last_ack,
            TcpState::TimeWait => self.tcp_time_wait,
            TcpState::Reset(_) | TcpState::Close => self.tcp_close,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            tcp_handshake: seconds(60),
            tcp_established: seconds(24 * 60 * 60),
            tcp_fin_wait: seconds(120),
            tcp_close_wait: seconds(60),
            tcp_last_ack: seconds(30),
            tcp_time_wait: seconds(120),
            tcp_close: seconds(10),
            unreplied: seconds(30),
            replied: seconds(180),
            icmp: seconds(30),
            sctp: seconds(210),
            residency: seconds(120),
            aftermath: seconds(10),
        }
    }
}
