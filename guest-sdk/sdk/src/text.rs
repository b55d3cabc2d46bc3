//! Text that is put together at compile time: manifests and schemas are constants.

/// Some ASCII or UTF-8 text of at most [`Text::CAPACITY`] bytes.
#[derive(Clone, Copy)]
pub struct Text {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl Text {
    /// Bytes it can hold.
    pub const CAPACITY: usize = 8192;

    /// No text.
    pub const EMPTY: Self = Self { bytes: [0; Self::CAPACITY], len: 0 };

    /// Adds `text` as it is.
    ///
    /// # Panics
    /// If it does not fit; at compile time, where texts are constants.
    #[must_use]
    pub const fn with(self, text: &str) -> Self {
        self.with_bytes(text.as_bytes())
    }

    /// Adds another text.
    ///
    /// # Panics
    /// As [`Text::with`].
    #[must_use]
    pub const fn with_text(self, text: &Self) -> Self {
        self.with_bytes(text.as_bytes())
    }

    /// Adds all of another text but its first byte.
    ///
    /// # Panics
    /// As [`Text::with`].
    #[must_use]
    pub(crate) const fn with_rest_of(self, text: &Self) -> Self {
        let (_, rest) = text.as_bytes().split_at(1);
        self.with_bytes(rest)
    }

    /// Adds `text` as a JSON string, in quotes (RFC 8259 section 7).
    ///
    /// # Panics
    /// As [`Text::with`].
    #[must_use]
    pub const fn with_json(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        self = self.with("\"");
        let mut index = 0;
        while index < bytes.len() {
            self = match bytes[index] {
                b'"' => self.with("\\\""),
                b'\\' => self.with("\\\\"),
                control if control < 0x20 => self.with(" "),
                other => self.with_bytes(&[other]),
            };
            index += 1;
        }
        self.with("\"")
    }

    /// Adds a number.
    ///
    /// # Panics
    /// As [`Text::with`].
    #[must_use]
    pub const fn with_number(self, number: u64) -> Self {
        let mut digits = [0; 20];
        let mut first = digits.len();
        let mut rest = number;
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let (_, digits) = digits.split_at(first);
        self.with_bytes(digits)
    }

    /// The bytes of the text.
    pub const fn as_bytes(&self) -> &[u8] {
        let (text, _) = self.bytes.split_at(self.len);
        text
    }

    /// How many bytes there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The text in an array of its own length.
    ///
    /// # Panics
    /// If `N` is not the length.
    pub const fn to_array<const N: usize>(&self) -> [u8; N] {
        match self.as_bytes().first_chunk() {
            Some(array) if N == self.len => *array,
            _ => panic!("the array is as long as the text"),
        }
    }

    const fn with_bytes(mut self, bytes: &[u8]) -> Self {
        assert!(self.len + bytes.len() <= Self::CAPACITY, "a manifest or schema is too long");
        let (_, free) = self.bytes.split_at_mut(self.len);
        let (place, _) = free.split_at_mut(bytes.len());
        place.copy_from_slice(bytes);
        self.len += bytes.len();
        self
    }
}
