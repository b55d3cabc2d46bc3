//! Answers over TCP (K4; RFC 7766): read out of segments, whichever way these cut them, and never out
//! of the middle of another answer.

use millrace_filter::abi::PacketVerdict;
use millrace_filter::wire::tcp;
use proptest::prelude::*;

use super::names::{
    PORT, RESOLVER, SERVED_BY, SITE, V4, answer, has, is_let, question, told, town,
};
use super::*;

/// A connection to a resolver, and how far both sides have come.
struct Talk {
    rig: Rig<Policy>,
    client: u16,
    asked: u32,
    answered: u32,
}

impl Talk {
    fn open() -> Self {
        let mut talk = Self::new(town(), 4000, 0xffff_ff00);
        talk.shake_hands();
        talk
    }

    /// A connection whose numbers begin here.
    fn new(rig: Rig<Policy>, client: u16, answered: u32) -> Self {
        Self { rig, client, asked: 0x1234, answered }
    }

    fn shake_hands(&mut self) {
        self.send(Flags::SYN, b"");
        self.asked += 1;
        self.tell(self.answered, Flags::SYN | Flags::ACK, b"");
        self.answered = self.answered.wrapping_add(1);
    }

    fn send(&mut self, flags: Flags, payload: &[u8]) {
        let ends = (format!("{CLIENT}:{}", self.client), format!("{RESOLVER}:53"));
        let frame = segment(&ends.0, &ends.1, self.asked, 0, flags, payload);
        assert_eq!(self.rig.packet_from(PORT, &frame).bytes, frame, "questions pass as they are");
        self.asked += payload.len() as u32;
    }

    fn ask(&mut self, question: &[u8]) {
        self.send(Flags::ACK, &framed(question));
    }

    /// A segment of the resolver's, which begins with the octet `seq`.
    fn tell(&mut self, seq: u32, flags: Flags, payload: &[u8]) {
        let ends = (format!("{SERVED_BY}:53"), format!("{CLIENT}:{}", self.client));
        let frame = segment(&ends.0, &ends.1, seq, self.asked, flags, payload);
        let outcome = self.rig.packet_from(9, &frame);
        assert_eq!((outcome.verdict, outcome.bytes), (PacketVerdict::Pass, frame), "unchanged");
    }

    /// The resolver's next octets.
    fn answer(&mut self, payload: &[u8]) {
        self.tell(self.answered, Flags::ACK, payload);
        self.answered = self.answered.wrapping_add(payload.len() as u32);
    }

    fn learned(&self) -> u64 {
        self.rig.metric("names_learned")
    }

    fn unread(&self) -> u64 {
        self.rig.metric("segments_unread")
    }
}

fn segment(source: &str, to: &str, seq: u32, ack: u32, flags: Flags, payload: &[u8]) -> Vec<u8> {
    let mut frame = frames::tcp(source, to, flags, payload);
    let mut view = tcp::Segment::new_unchecked(&mut frame[BEHIND_IP..]);
    view.set_seq(seq);
    view.set_ack(ack);
    frame
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// An answer about `www.example.com` with so many addresses, of which [`SITE`] is the last.
fn long(id: u8, addresses: u8) -> Vec<u8> {
    let others = (1..addresses).map(|it| has(WWW, &format!("203.0.113.{it}"), 60));
    answer(id, WWW, V4, &others.chain([has(WWW, SITE, 60)]).collect::<Vec<_>>())
}

#[test]
fn k4_a_name_lets_to_the_addresses_that_a_resolver_has_said_over_tcp_it_has() {
    let mut talk = Talk::open();
    talk.ask(&question(7, WWW, V4));
    assert!(!is_let(&mut talk.rig, SITE));
    talk.answer(&framed(&answer(7, WWW, V4, &[has(WWW, SITE, 60)])));
    assert!(is_let(&mut talk.rig, SITE));
    // and another one by the same connection, in an order of the resolver's (RFC 7766 section 7)
    let [a, b] = ["a.shop.test", "b.shop.test"];
    let questions = [(8, a), (9, b)].map(|(id, name)| framed(&question(id, name, V4)));
    talk.send(Flags::ACK, &questions.concat());
    let answers = [(9, b, "192.0.2.9"), (8, a, "192.0.2.8")];
    let answers = answers.map(|(id, of, it)| framed(&answer(id, of, V4, &[has(of, it, 60)])));
    talk.answer(&answers.concat());
    assert!(is_let(&mut talk.rig, "192.0.2.8") && is_let(&mut talk.rig, "192.0.2.9"));
    assert_eq!((talk.learned(), talk.unread()), (3, 0));
}

#[test]
fn k4_a_question_may_come_with_the_syn() {
    let mut talk = Talk::new(town(), 4000, 77);
    let question = framed(&question(7, WWW, V4));
    talk.send(Flags::SYN, &question);
    talk.asked += 1;
    talk.tell(77, Flags::SYN | Flags::ACK, b"");
    talk.answered = 78;
    talk.answer(&framed(&answer(7, WWW, V4, &[has(WWW, SITE, 60)])));
    assert!(is_let(&mut talk.rig, SITE));
}

#[test]
fn k4_what_is_sent_again_is_read_once() {
    let mut talk = Talk::open();
    talk.ask(&question(7, WWW, V4));
    let octets = framed(&long(7, 100));
    let (first, last) = octets.split_at(1000);
    let start = talk.answered;
    talk.answer(first);
    talk.tell(start, Flags::ACK, first);
    // as a whole, with what is new behind it
    talk.tell(start.wrapping_add(500), Flags::ACK, &octets[500..1200]);
    talk.answered = start.wrapping_add(1200);
    talk.answer(&last[200..]);
    // a keepalive (RFC 9293 section 3.8.4)
    talk.tell(talk.answered.wrapping_sub(1), Flags::ACK, b"\0");
    assert!(is_let(&mut talk.rig, SITE));
    assert_eq!((talk.learned(), talk.unread()), (100, 0));
}

#[test]
fn k4_behind_a_gap_nothing_is_read_for_a_text_may_look_like_an_answer() {
    let forged = framed(&answer(7, WWW, V4, &[has(WWW, SITE, 60)]));
    let mut talk = Talk::open();
    talk.ask(&question(7, WWW, V4));
    talk.tell(talk.answered.wrapping_add(10), Flags::ACK, &forged);
    talk.tell(talk.answered, Flags::ACK, &forged);
    assert_eq!((talk.learned(), talk.unread()), (0, 2), "nor when the gap is filled");

    // nor within a message, whose rest it is
    let mut talk = Talk::open();
    talk.ask(&question(7, WWW, V4));
    talk.answer(&[&[0xff, 0xff][..], b"too long"].concat());
    talk.answer(&forged);
    assert_eq!((talk.learned(), talk.unread()), (0, 0));

    // nor of a connection that nobody has seen begin
    let mut talk = Talk::new(town(), 4000, 77);
    talk.ask(&question(7, WWW, V4));
    talk.answer(&forged);
    talk.tell(76, Flags::SYN | Flags::ACK, b"");
    talk.answer(&forged);
    assert_eq!((talk.learned(), talk.unread()), (0, 2));

    // nor behind its end
    for flags in [Flags::FIN | Flags::ACK, Flags::RST] {
        let mut talk = Talk::open();
        talk.ask(&question(7, WWW, V4));
        talk.tell(talk.answered, flags, b"");
        talk.answer(&forged);
        assert_eq!((talk.learned(), talk.unread()), (0, 1));
    }
}

#[test]
fn k4_a_message_that_is_too_long_is_left_out_and_the_next_one_is_read() {
    let mut talk = Talk::open();
    talk.ask(&question(7, WWW, V4));
    let mut octets = framed(&vec![1; 9000]);
    octets.extend(framed(&long(7, 3)));
    octets.chunks(1400).for_each(|it| talk.answer(it));
    assert_eq!((talk.learned(), talk.unread()), (3, 1));
}

#[test]
fn k4_a_question_or_a_length_that_is_cut_is_counted_as_unread() {
    let mut talk = Talk::open();
    let octets = framed(&question(7, WWW, V4));
    octets.chunks(10).for_each(|it| talk.send(Flags::ACK, it));
    assert_ne!(talk.unread(), 0);

    let mut talk = Talk::open();
    talk.ask(&question(7, WWW, V4));
    let octets = framed(&long(7, 3));
    octets.chunks(1).take(2).for_each(|it| talk.answer(it));
    talk.answer(&octets[2..]);
    assert_eq!((talk.learned(), talk.unread()), (0, 3));
}

#[test]
fn k4_messages_of_one_pod_that_wait_leave_room_for_others() {
    let mut talk = Talk::open();
    talk.ask(&question(7, WWW, V4));
    let octets = framed(&long(7, 60));
    let half = octets.len() / 2;
    talk.answer(&octets[..half]);
    let Talk { mut rig, answered, .. } = talk;
    // eight of the other pod's are as many as may wait, and the first of its own gives way
    for client in 5000..5100 {
        let ends = (format!("{SERVER}:{client}"), format!("{RESOLVER}:53"));
        rig.packet_from(4, &segment(&ends.0, &ends.1, client, 0, Flags::SYN, b""));
        let (source, to) = (format!("{SERVED_BY}:53"), &ends.0);
        let both = Flags::SYN | Flags::ACK;
        rig.packet_from(9, &segment(&source, to, 0, client + 1, both, b""));
        rig.packet_from(9, &segment(&source, to, 1, client + 1, Flags::ACK, &octets[..half]));
    }
    let mut talk = Talk { rig, client: 4000, asked: 0x1235, answered };
    talk.answer(&octets[half..]);
    assert_eq!((talk.learned(), talk.unread()), (60, 0));
}

#[test]
fn k4_an_answer_of_which_another_instance_has_read_a_part_is_left_out() {
    let mut talk = Talk::open();
    talk.ask(&question(7, WWW, V4));
    let octets = [framed(&long(7, 60)), framed(&long(7, 3))].concat();
    talk.answer(&octets[..500]);
    talk.rig.reconfigure("{}").expect("it starts");
    talk.rig.publish(&told()).expect("they fit together");
    talk.answer(&octets[500..]);
    assert_eq!((talk.learned(), talk.unread()), (3, 1), "its end is known");
}

proptest! {
    #[test]
    fn k4_an_answer_is_read_whichever_way_segments_cut_it(
        cuts in prop::collection::vec(2..700usize, 0..8), seq: u32,
    ) {
        let mut talk = Talk::new(town(), 4000, seq);
        talk.shake_hands();
        talk.ask(&question(7, WWW, V4));
        let octets = framed(&long(7, 60));
        let mut rest = &octets[..];
        for cut in cuts {
            let (some, behind) = rest.split_at(cut.min(rest.len()));
            talk.answer(some);
            rest = behind;
        }
        talk.answer(rest);
        prop_assert_eq!((talk.learned(), talk.unread()), (60, 0));
    }
}

const WWW: &str = "www.example.com";
/// Octets of the Ethernet and IPv4 headers.
const BEHIND_IP: usize = 34;
