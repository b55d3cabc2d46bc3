//! Declares a memory layout once, for Rust, for the compiler to check, and for
//! the C header to be written from.
//!
//! [`layout!`](crate::layout!) takes a struct whose fields name their offsets.
//! It fails to compile when an offset or the size is not what `repr(C)` gives,
//! or when there is padding: a layout is then the same bytes everywhere, and
//! any bytes of its size are a value of it.

/// A type whose bytes pass between host and guest.
///
/// Implemented by [`layout!`](crate::layout!) alone, which asserts what the
/// host's copies rely on: `repr(C)`, fields that are integers or arrays of
/// them, and no padding.
pub trait Layout: Copy + Default + 'static {
    /// The C name of the type.
    const NAME: &'static str;
    /// The type's documentation, line by line.
    const DOC: &'static [&'static str];
    /// The fields in order of their offsets, without gaps.
    const FIELDS: &'static [FieldLayout];
}

/// One field of a [`Layout`].
#[derive(Clone, Copy, Debug)]
pub struct FieldLayout {
    /// The field's name, the same in Rust and C.
    pub name: &'static str,
    /// The field's documentation, line by line.
    pub doc: &'static [&'static str],
    /// Its element: bits of an unsigned integer.
    pub bits: usize,
    /// How many elements, where the field is an array.
    pub count: Option<usize>,
    /// Bytes from the start of the struct.
    pub offset: usize,
}

/// A field type that a layout may have: an unsigned integer or an array of them.
pub trait Element {
    /// Bits of one integer.
    const BITS: usize;
    /// Elements, where it is an array.
    const COUNT: Option<usize>;
    /// All bits zero.
    const ZERO: Self;
}

macro_rules! element {
    ($($int:ty),*) => {$(
        impl Element for $int {
            const BITS: usize = <$int>::BITS as usize;
            const COUNT: Option<usize> = None;
            const ZERO: Self = 0;
        }
        impl<const N: usize> Element for [$int; N] {
            const BITS: usize = <$int>::BITS as usize;
            const COUNT: Option<usize> = Some(N);
            const ZERO: Self = [0; N];
        }
    )*};
}
element!(u8, u16, u32, u64);

/// Declares a `repr(C)` struct with stated offsets, checked at compile time.
#[macro_export]
macro_rules! layout {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident as $c_name:literal, $size:literal bytes {
            $( $(#[doc = $field_doc:literal])* $offset:literal => $field:ident: $ty:ty, )*
        }
    ) => {
        $(#[doc = $doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[doc = $field_doc])* pub $field: $ty, )*
        }

        impl $name {
            /// All bytes zero.
            pub const ZERO: Self = Self {
                $( $field: <$ty as $crate::layout::Element>::ZERO, )*
            };
        }

        impl Default for $name {
            fn default() -> Self {
                Self::ZERO
            }
        }

        impl $crate::layout::Layout for $name {
            const NAME: &'static str = $c_name;
            const DOC: &'static [&'static str] = &[$($doc),*];
            const FIELDS: &'static [$crate::layout::FieldLayout] = &[
                $( $crate::layout::FieldLayout {
                    name: stringify!($field),
                    doc: &[$($field_doc),*],
                    bits: <$ty as $crate::layout::Element>::BITS,
                    count: <$ty as $crate::layout::Element>::COUNT,
                    offset: $offset,
                }, )*
            ];
        }

        const _: () = {
            assert!(size_of::<$name>() == $size, "the size is not what it says");
            $( assert!(
                core::mem::offset_of!($name, $field) == $offset,
                "an offset is not what it says"
            ); )*
            let bytes = 0 $( + size_of::<$ty>() )*;
            assert!(bytes == $size, "there is padding");
        };
    };
}
