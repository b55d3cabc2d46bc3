//! Bytes of a guest seen as the contract's layouts, and back.
//!
//! A guest's memory is only looked at while the guest does not run, and always
//! through a range that was checked against the memory's present size. Nothing
//! a guest wrote is used as an offset or a length here without that check.
#![allow(unsafe_code)]

use millrace_abi::layout::Layout;
use millrace_abi::{Decision, MapShape, PacketRecord, Slot};

/// A layout whose every bit pattern is a value, without padding.
///
/// # Safety
/// As `zerocopy::FromBytes` and `IntoBytes`: `repr(C)`, integers only, no padding,
/// alignment at most 8.
pub(crate) unsafe trait Plain: Layout {}

// SAFETY: holds because `millrace_abi::layout!` makes it `repr(C)` of unsigned integers and
// asserts that there is no padding; the assertion below checks its alignment.
unsafe impl Plain for Slot {}
// SAFETY: holds as for `Slot`.
unsafe impl Plain for Decision {}
// SAFETY: holds as for `Slot`.
unsafe impl Plain for PacketRecord {}
// SAFETY: holds as for `Slot`.
unsafe impl Plain for MapShape {}

const _: () = assert!(align_of::<Slot>() <= 8);
const _: () = assert!(align_of::<Decision>() <= 8);
const _: () = assert!(align_of::<PacketRecord>() <= 8);
const _: () = assert!(align_of::<MapShape>() <= 8);

/// `count` values at `at`, or `None` if they do not lie inside `memory`, aligned.
#[inline]
pub(crate) fn view<T: Plain>(memory: &[u8], at: u32, count: usize) -> Option<&[T]> {
    let bytes = memory.get(at as usize..)?.get(..count.checked_mul(size_of::<T>())?)?;
    if !bytes.as_ptr().cast::<T>().is_aligned() {
        return None;
    }
    // SAFETY: holds because `bytes` is `count * size_of::<T>()` initialised bytes, aligned for
    // `T` (both checked above), borrowed for the result's lifetime, and any bytes are a `T`
    // (`Plain`).
    Some(unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), count) })
}

/// `count` values at `at` for writing, or `None` as for [`view`].
#[inline]
pub(crate) fn view_mut<T: Plain>(memory: &mut [u8], at: u32, count: usize) -> Option<&mut [T]> {
    let bytes = memory.get_mut(at as usize..)?.get_mut(..count.checked_mul(size_of::<T>())?)?;
    if !bytes.as_ptr().cast::<T>().is_aligned() {
        return None;
    }
    // SAFETY: holds as in `view`; the borrow is exclusive, and any `T` is bytes again (`Plain`).
    Some(unsafe { std::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), count) })
}

/// `len` bytes at `at`, or `None` if they do not lie inside `memory`.
#[inline]
pub(crate) fn bytes(memory: &[u8], at: u32, len: usize) -> Option<&[u8]> {
    memory.get(at as usize..)?.get(..len)
}

/// `len` bytes at `at` for writing, or `None` likewise.
#[inline]
pub(crate) fn bytes_mut(memory: &mut [u8], at: u32, len: usize) -> Option<&mut [u8]> {
    memory.get_mut(at as usize..)?.get_mut(..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_or_misaligned_is_not_seen() {
        let mut words = [Slot::ZERO; 4];
        // SAFETY: holds because `Slot` is `Plain`; the array is borrowed exclusively.
        let memory = unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 512) };

        assert!(view::<Slot>(memory, 0, 4).is_some());
        assert!(view::<Slot>(memory, 0, 5).is_none());
        assert!(view::<Slot>(memory, 4, 1).is_none());
        assert!(view::<Slot>(memory, u32::MAX, 1).is_none());
        assert!(view::<Slot>(memory, 0, usize::MAX).is_none());
        assert!(view_mut::<Decision>(memory, 512 - 128, 1).is_some());
        assert!(view_mut::<Decision>(memory, 512 - 120, 1).is_none());
        assert!(bytes(memory, 510, 3).is_none());
        assert!(bytes_mut(memory, 510, 2).is_some());
    }
}
