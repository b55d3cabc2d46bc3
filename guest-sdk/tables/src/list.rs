//! Values that are several things of one kind, one behind the other.

use alloc::vec::Vec;
use core::fmt::Debug;
use core::marker::PhantomData;

/// Something that lists have, with the same number of octets each.
pub trait Element: Copy + Debug + PartialEq + Eq {
    /// Octets of one.
    const LEN: usize;

    /// Adds its octets.
    fn encode(&self, out: &mut Vec<u8>);

    /// The one with exactly these octets.
    fn decode(octets: &[u8]) -> Option<Self>;
}

/// Things of one kind, read from octets where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List<'u, T>(&'u [u8], PhantomData<T>);

impl<'u, T: Element> List<'u, T> {
    /// The octets of a list.
    pub fn encode(elements: &[T]) -> Vec<u8> {
        let mut out = Vec::with_capacity(elements.len() * T::LEN);
        elements.iter().for_each(|element| element.encode(&mut out));
        out
    }

    /// The list that [`List::encode`] has written; `None` if these octets are none.
    pub fn new(octets: &'u [u8]) -> Option<Self> {
        let mut each = octets.chunks_exact(T::LEN);
        let whole = each.remainder().is_empty();
        (whole && each.all(|it| T::decode(it).is_some())).then_some(Self(octets, PhantomData))
    }

    /// How many there are.
    pub fn count(self) -> usize {
        self.0.len() / T::LEN
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = T> + 'u
    where
        T: 'u,
    {
        self.0.chunks_exact(T::LEN).filter_map(T::decode)
    }

    pub(crate) fn octets(self) -> &'u [u8] {
        self.0
    }
}
