//! DNS messages (RFC 1035 section 4): the question, and what is answered.
//!
//! ```text
//!  0    2       4           6         8             10           12
//! ├────┼───────┼───────────┼─────────┼─────────────┼────────────┼───────────────────────
//! │ id │ flags │ questions │ answers │ authorities │ additional │ questions, records …
//! ```
//!
//! Whoever sends it wrote it: a name may point elsewhere in the message, and does so to what is
//! before it alone, or is no name. Reading ends with the first thing that is none.

use core::fmt::{self, Write};
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::field;

/// The port that servers answer at.
pub const PORT: u16 = 53;

/// Octets of a message's header.
pub const HEADER_LEN: usize = 12;

/// A view of a message, whose header is there; what follows may end early.
#[derive(Debug, Clone, Copy)]
pub struct Message<'m>(&'m [u8]);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Of which name.
    pub name: Name,
    /// What (RFC 1035 section 3.2.3): 1 is an IPv4 address, 28 an IPv6 address.
    pub kind: u16,
    /// In which class: 1 is the Internet.
    pub class: u16,
}

/// A name as people write it, in small letters and without a dot at the end; the root's is empty. An
/// octet other than a letter, a digit, `-` and `_` is `\` with three digits, as dots in labels are: so
/// that texts are the same where names are (RFC 4343).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name {
    text: [u8; MOST_OF_A_TEXT],
    len: u8,
}

/// Something that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Of which name.
    pub name: Name,
    /// For how many seconds it may be remembered (RFC 2181 section 8).
    pub ttl: u32,
    /// What is said of it.
    pub data: Data,
}

/// What a record says of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    clippy::large_enum_variant,
    reason = "records are read one by one, and nothing is allocated"
)]
pub enum Data {
    /// It has this address.
    A(Ipv4Addr),
    /// It has this address.
    Aaaa(Ipv6Addr),
    /// It is another name for this one.
    Cname(Name),
    /// Something else.
    Other,
}

/// The messages of a stream that are whole, from where one begins: TCP carries each behind its length
/// (RFC 1035 section 4.2.2).
#[derive(Debug, Clone)]
pub struct Framed<'s>(&'s [u8]);

/// The records that answer a question; it ends with the first that is malformed.
#[derive(Debug, Clone)]
pub struct Records<'m> {
    message: &'m [u8],
    at: usize,
    left: u16,
}

impl<'m> Message<'m> {
    /// The message that these octets begin with; nothing if its header is not whole.
    pub fn new(octets: &'m [u8]) -> Option<Self> {
        (octets.len() >= HEADER_LEN).then_some(Self(octets))
    }

    /// What tells a question, and its answer, from others of the same client.
    pub fn id(self) -> u16 {
        field::u16(self.0, 0)
    }

    /// Whether it answers.
    pub fn is_answer(self) -> bool {
        self.0[2] & 0x80 != 0
    }

    /// Whether it is, or answers, a standard query; and, if it answers, without an error.
    pub fn is_plain(self) -> bool {
        let [opcode, error] = [self.0[2] >> 3 & 0xf, self.0[3] & 0xf];
        opcode == 0 && (error == 0 || !self.is_answer())
    }

    /// The question, if there is one and no other.
    pub fn question(self) -> Option<Question> {
        self.behind_question().map(|(question, _)| question)
    }

    /// What answers the only question; nothing if that is not whole.
    pub fn answers(self) -> Records<'m> {
        let behind = self.behind_question();
        let (at, left) = behind.map_or((self.0.len(), 0), |(_, at)| (at, field::u16(self.0, 6)));
        Records { message: self.0, at, left }
    }

    fn behind_question(self) -> Option<(Question, usize)> {
        if field::u16(self.0, 4) != 1 {
            return None;
        }
        let (name, at) = Name::read(self.0, HEADER_LEN)?;
        let kind = self.0.get(at..at + 4)?;
        let (kind, class) = (field::u16(kind, 0), field::u16(kind, 2));
        Some((Question { name, kind, class }, at + 4))
    }
}

impl<'s> Framed<'s> {
    /// Those that these octets begin with.
    pub fn new(octets: &'s [u8]) -> Self {
        Self(octets)
    }

    /// What is behind those that were taken: at the end a message that goes on, if anything.
    pub fn rest(&self) -> &'s [u8] {
        self.0
    }
}

impl<'s> Iterator for Framed<'s> {
    type Item = &'s [u8];

    fn next(&mut self) -> Option<&'s [u8]> {
        let (len, behind) = self.0.split_first_chunk()?;
        let (message, rest) = behind.split_at_checked(u16::from_be_bytes(*len).into())?;
        self.0 = rest;
        Some(message)
    }
}

impl Iterator for Records<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        self.left = self.left.checked_sub(1)?;
        let record = self.take();
        if record.is_none() {
            self.left = 0;
        }
        record
    }
}

impl Records<'_> {
    fn take(&mut self) -> Option<Record> {
        let (name, at) = Name::read(self.message, self.at)?;
        let fixed = self.message.get(at..at + 10)?;
        let (kind, class) = (field::u16(fixed, 0), field::u16(fixed, 2));
        let (ttl, len) = (field::u32(fixed, 4), usize::from(field::u16(fixed, 8)));
        let start = at + 10;
        let data = self.message.get(start..start + len)?;
        self.at = start + len;
        let data = match (class, kind, len) {
            (INTERNET, A, 4) => Data::A(field::array(data, 0).into()),
            (INTERNET, AAAA, 16) => Data::Aaaa(field::array(data, 0).into()),
            (INTERNET, CNAME, _) => Data::Cname(Name::read(self.message, start)?.0),
            _ => Data::Other,
        };
        // one with the highest bit is none (RFC 2181 section 8)
        let ttl = if ttl > i32::MAX as u32 { 0 } else { ttl };
        Some(Record { name, ttl, data })
    }
}

impl Name {
    /// Its text.
    pub fn text(&self) -> &str {
        core::str::from_utf8(&self.text[..self.len.into()]).expect("it is written in ASCII")
    }

    /// The name at `at`, and where what follows it is.
    fn read(message: &[u8], at: usize) -> Option<(Self, usize)> {
        let mut name = Self { text: [0; MOST_OF_A_TEXT], len: 0 };
        let (mut from, mut at, mut behind) = (at, at, None);
        loop {
            let len = usize::from(*message.get(at)?);
            match len {
                0 => return Some((name, behind.unwrap_or(at + 1))),
                1..=63 => {
                    let label = message.get(at + 1..at + 1 + len)?;
                    name.add(label)?;
                    at += 1 + len;
                }
                0xc0.. => {
                    let to = (len & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                    behind.get_or_insert(at + 2);
                    // what is further back each time comes to an end
                    if !(HEADER_LEN..from).contains(&to) {
                        return None;
                    }
                    (from, at) = (to, to);
                }
                _ => return None,
            }
        }
    }

    fn add(&mut self, label: &[u8]) -> Option<()> {
        if self.len > 0 {
            self.write_char('.').ok()?;
        }
        label.iter().try_for_each(|octet| match octet.to_ascii_lowercase() {
            plain @ (b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z') => self.write_char(plain.into()).ok(),
            other => write!(self, "\\{other:03}").ok(),
        })
    }
}

impl Write for Name {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let at = usize::from(self.len);
        let room = self.text.get_mut(at..at + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len() as u8;
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text().fmt(f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.text())
    }
}

/// Enough for any name that has no octets to be written as numbers (RFC 1035 section 2.3.4).
const MOST_OF_A_TEXT: usize = 253;
const INTERNET: u16 = 1;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

#[cfg(test)]
mod tests {
    use std::string::ToString;
    use std::vec::Vec;

    use super::*;

    /// An answer to who `www.Example.com` is: another name for `a.example.com`, which has an address
    /// of each family; and a text that nobody has asked for.
    fn answer() -> Vec<u8> {
        let header = [0, 7, 0x81, 0x80, 0, 1, 0, 4, 0, 0, 0, 0];
        [
            &header[..],
            b"\x03www\x07Example\x03com\0\0\x01\0\x01",
            b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x10",
            b"\xc0\x2d\0\x01\0\x01\0\0\0\x0a\0\x04\xc0\0\x02\x01",
            b"\xc0\x2d\0\x1c\0\x01\xff\0\0\0\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01",
            b"\0\0\x10\0\x01\0\0\0\0\0\x02\x01x",
        ]
        .concat()
    }

    #[test]
    fn a_question_and_its_answers_are_read_whatever_the_case_of_letters() {
        let octets = answer();
        let message = Message::new(&octets).unwrap();
        assert_eq!((message.id(), message.is_answer(), message.is_plain()), (7, true, true));
        let question = message.question().unwrap();
        assert_eq!(
            (question.name.text(), question.kind, question.class),
            ("www.example.com", 1, 1)
        );
        let records: Vec<_> = message.answers().collect();
        let said: Vec<_> = records.iter().map(|it| (it.name.text(), it.ttl)).collect();
        let of_a = "a.example.com";
        assert_eq!(said, [("www.example.com", 60), (of_a, 10), (of_a, 0), ("", 0)]);
        let Data::Cname(name) = records[0].data else { panic!("{:?}", records[0]) };
        assert_eq!(name.to_string(), "a.example.com.");
        assert_eq!(records[1].data, Data::A([192, 0, 2, 1].into()));
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        assert_eq!(records[2].data, Data::Aaaa(v6));
        assert_eq!(records[3].data, Data::Other);
    }

    #[test]
    fn a_message_that_ends_early_is_read_as_far_as_it_is_whole() {
        let octets = answer();
        let counts: Vec<usize> = (HEADER_LEN..=octets.len())
            .map(|len| Message::new(&octets[..len]).unwrap().answers().count())
            .collect();
        assert!(counts.is_sorted());
        assert_eq!((counts[0], counts.last()), (0, Some(&4)));
        assert!(Message::new(&octets[..HEADER_LEN - 1]).is_none());
    }

    #[test]
    fn messages_of_a_stream_are_taken_one_by_one_until_one_goes_on() {
        let octets = b"\0\x03abc\0\0\0\x02de\0\x04fgh";
        let mut framed = Framed::new(octets);
        let messages: Vec<_> = framed.by_ref().collect();
        assert_eq!(messages, [&b"abc"[..], b"", b"de"]);
        assert_eq!(framed.rest(), b"\0\x04fgh");
        assert_eq!(Framed::new(b"\0").next(), None, "a length may be cut, too");
    }

    #[test]
    fn errors_and_other_operations_are_told_apart() {
        for (at, octet) in [(2, 0x80 | 2 << 3), (3, 3)] {
            let mut octets = answer();
            octets[at] = octet;
            assert!(!Message::new(&octets).unwrap().is_plain());
        }
        let query = [0, 7, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0];
        let query = Message::new(&query).unwrap();
        assert!(query.is_plain() && !query.is_answer() && query.question().is_none());
    }

    #[test]
    fn dots_within_labels_are_no_dots_between_them() {
        let octets = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x03a.b\x02C\n\0\0\x01\0\x01"];
        let octets = octets.concat();
        let question = Message::new(&octets).unwrap().question().unwrap();
        assert_eq!(question.name.text(), "a\\046b.c\\010");
    }

    #[test]
    fn names_that_point_at_themselves_or_ahead_or_are_too_long_are_none() {
        let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let label = [&[63][..], &[b'a'; 63]].concat();
        let long = [&label[..], &label, &label, &label, &[0; 5]].concat();
        let odd = [&[63][..], &[b'!'; 63], b"\x01a", &[0; 5]].concat();
        let (itself, ahead) = (b"\xc0\x0c\0\x01\0\x01", b"\xc0\x0e\0\0\x01\0\x01");
        let into_header = b"\xc0\x00\0\x01\0\x01";
        for name in [&itself[..], ahead, into_header, b"\x40", &long, &odd] {
            let octets = [&header[..], name].concat();
            assert_eq!(Message::new(&octets).unwrap().question(), None, "{name:?}");
            assert_eq!(Message::new(&octets).unwrap().answers().count(), 0);
        }
    }
}
