//! CRC-32C (Castagnoli), as SCTP uses it (RFC 9260 appendix A), eight octets per step.

/// A running CRC.
#[derive(Clone, Copy)]
pub(crate) struct Crc32c(u32);

impl Crc32c {
    #[inline]
    pub(crate) const fn new() -> Crc32c {
        Crc32c(!0)
    }

    #[inline]
    pub(crate) fn update(self, bytes: &[u8]) -> Crc32c {
        let (steps, rest) = bytes.as_chunks::<8>();
        let mut crc = self.0;
        for step in steps {
            let [a, b, c, d, e, f, g, h] =
                (u64::from_le_bytes(*step) ^ u64::from(crc)).to_le_bytes();
            crc = entry(7, a) ^ entry(6, b) ^ entry(5, c) ^ entry(4, d);
            crc ^= entry(3, e) ^ entry(2, f) ^ entry(1, g) ^ entry(0, h);
        }
        for octet in rest {
            crc = crc >> 8 ^ entry(0, crc as u8 ^ octet);
        }
        Crc32c(crc)
    }

    #[inline]
    pub(crate) const fn value(self) -> u32 {
        !self.0
    }
}

/// What an octet followed by `zeros` zero octets adds to the CRC.
#[inline]
fn entry(zeros: usize, octet: u8) -> u32 {
    TABLES[zeros][usize::from(octet)]
}

/// The polynomial 0x1edc6f41, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut octet = 0;
    while octet < 256 {
        let mut crc = octet as u32;
        let mut table = 0;
        while table < 8 {
            let mut bit = 0;
            while bit < 8 {
                crc = (crc >> 1) ^ ((crc & 1) * POLYNOMIAL);
                bit += 1;
            }
            tables[table][octet] = crc;
            table += 1;
        }
        octet += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// One bit at a time.
    fn reference(bytes: &[u8]) -> u32 {
        let mut crc = !0u32;
        for octet in bytes {
            crc ^= u32::from(*octet);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            }
        }
        !crc
    }

    #[test]
    fn the_published_vectors_come_out() {
        // the check value of the CRC catalogue, and RFC 3720 §B.4
        assert_eq!(Crc32c::new().update(b"123456789").value(), 0xe306_9283);
        assert_eq!(Crc32c::new().update(&[0x00; 32]).value(), 0x8a91_36aa);
        assert_eq!(Crc32c::new().update(&[0xff; 32]).value(), 0x62a8_ab43);
        let counting = core::array::from_fn::<u8, 32, _>(|index| index as u8);
        assert_eq!(Crc32c::new().update(&counting).value(), 0x46dd_794e);
    }

    proptest! {
        #[test]
        fn eight_at_a_time_is_bit_by_bit(bytes in vec(any::<u8>(), 0..100), cut in any::<usize>()) {
            let (head, tail) = bytes.split_at(cut % (bytes.len() + 1));
            prop_assert_eq!(Crc32c::new().update(head).update(tail).value(), reference(&bytes));
        }
    }
}
