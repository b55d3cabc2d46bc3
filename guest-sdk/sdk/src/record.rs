//! Keys and values of maps: structs as bytes of a fixed length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::MacAddr;

/// A type with a fixed number of bytes. Derive it for structs whose fields are [`Field`]s.
///
/// ```
/// # use millrace_filter::prelude::*;
/// #[derive(Record, PartialEq, Debug)]
/// struct Station {
///     vlan: u16,
///     mac: MacAddr,
/// }
/// assert_eq!(Station::LEN, 8);
/// ```
pub trait Record: Sized {
    /// How many bytes it has.
    const LEN: usize;
    /// An array for its bytes.
    type Bytes: AsRef<[u8]> + AsMut<[u8]>;
    /// The array, all zeros.
    const ZEROS: Self::Bytes;
    /// Its fields, for people to read.
    const FIELDS: &'static [Column];

    /// Writes it to `bytes`, [`Record::LEN`] of them.
    fn write(&self, bytes: &mut [u8]);
    /// Reads it from `bytes`, [`Record::LEN`] of them.
    fn read(bytes: &[u8]) -> Self;
}

/// How people are shown a field.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its heading.
    pub name: &'static str,
    /// What it holds, in the words of the manifest.
    pub kind: &'static str,
}

/// A type that a [`Record`] can hold.
pub trait Field: Sized {
    /// Its bytes.
    const LEN: usize;
    /// The manifest's word for it.
    const KIND: &'static str;

    /// Writes it to `bytes`, [`Field::LEN`] of them.
    fn write(&self, bytes: &mut [u8]);
    /// Reads it from `bytes`, [`Field::LEN`] of them.
    fn read(bytes: &[u8]) -> Self;
}

/// The id of a port, shown by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Port(pub u16);

/// A moment, in nanoseconds of the clock of [`Slot::now_ns`](crate::Slot), shown as an age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

macro_rules! integers {
    ($($int:ty, $kind:literal;)*) => {$(
        impl Field for $int {
            const LEN: usize = size_of::<Self>();
            const KIND: &'static str = $kind;

            #[inline]
            fn write(&self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn read(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<Self>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }
        }

        impl Record for $int {
            const LEN: usize = <Self as Field>::LEN;
            type Bytes = [u8; <Self as Field>::LEN];
            const ZEROS: Self::Bytes = [0; <Self as Field>::LEN];
            const FIELDS: &'static [Column] =
                &[Column { name: "value", kind: <Self as Field>::KIND }];

            #[inline]
            fn write(&self, bytes: &mut [u8]) {
                Field::write(self, bytes);
            }

            #[inline]
            fn read(bytes: &[u8]) -> Self {
                Field::read(bytes)
            }
        }
    )*};
}
integers! {
    u8, "u8";
    u16, "u16";
    u32, "u32";
    u64, "u64";
}

macro_rules! wrapped {
    ($($ty:ty, $kind:literal, $inner:ty;)*) => {$(
        impl Field for $ty {
            const LEN: usize = <$inner as Field>::LEN;
            const KIND: &'static str = $kind;

            #[inline]
            fn write(&self, bytes: &mut [u8]) {
                Field::write(&self.0, bytes);
            }

            #[inline]
            fn read(bytes: &[u8]) -> Self {
                Self(Field::read(bytes))
            }
        }
    )*};
}
wrapped! {
    Port, "port", u16;
    Time, "time", u64;
}

impl Field for MacAddr {
    const LEN: usize = 6;
    const KIND: &'static str = "mac";

    #[inline]
    fn write(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.0);
    }

    #[inline]
    fn read(bytes: &[u8]) -> Self {
        let mut own = [0; 6];
        own.copy_from_slice(bytes);
        Self(own)
    }
}

impl Field for IpAddr {
    const LEN: usize = 16;
    const KIND: &'static str = "ip";

    #[inline]
    fn write(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&match self {
            Self::V4(v4) => v4.to_ipv6_mapped().octets(),
            Self::V6(v6) => v6.octets(),
        });
    }

    #[inline]
    fn read(bytes: &[u8]) -> Self {
        let mut own = [0; 16];
        own.copy_from_slice(bytes);
        let v6 = Ipv6Addr::from(own);
        v6.to_ipv4_mapped().map_or(Self::V6(v6), Self::V4)
    }
}

impl Field for Ipv4Addr {
    const LEN: usize = 16;
    const KIND: &'static str = "ip";

    #[inline]
    fn write(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.to_ipv6_mapped().octets());
    }

    #[inline]
    fn read(bytes: &[u8]) -> Self {
        Self::new(bytes[12], bytes[13], bytes[14], bytes[15])
    }
}
