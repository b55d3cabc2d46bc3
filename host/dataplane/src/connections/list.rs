//! Connections in a row, linked through their places in a slab: any of them can leave at once.

use super::connection::Connection;
use super::slab::Slab;

/// A row.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
}

/// A connection's neighbours in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    before: u32,
    after: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE };

    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == NONE
    }

    /// Puts the connection at `at` last; `link` says where a connection keeps its neighbours.
    pub(super) fn put(
        &mut self,
        slab: &mut Slab,
        at: u32,
        link: impl Fn(&mut Connection) -> &mut Link,
    ) {
        *link(slab.present(at)) = Link { before: self.last, after: NONE };
        match self.last {
            NONE => self.first = at,
            last => link(slab.present(last)).after = at,
        }
        self.last = at;
    }

    /// Takes the connection at `at` out.
    pub(super) fn take(
        &mut self,
        slab: &mut Slab,
        at: u32,
        link: impl Fn(&mut Connection) -> &mut Link,
    ) {
        let Link { before, after } = std::mem::replace(link(slab.present(at)), Link::ALONE);
        match before {
            NONE => self.first = after,
            before => link(slab.present(before)).after = after,
        }
        match after {
            NONE => self.last = before,
            after => link(slab.present(after)).before = before,
        }
    }
}

impl Link {
    pub(super) const ALONE: Self = Self { before: NONE, after: NONE };

    pub(super) fn after(self) -> Option<u32> {
        (self.after != NONE).then_some(self.after)
    }
}

const NONE: u32 = u32::MAX;
