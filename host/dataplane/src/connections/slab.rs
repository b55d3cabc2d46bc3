//! Where the connections of a shard are: places that never move, in chunks, so that growing
//! copies nothing.

use super::connection::Connection;

/// The places of a shard. Their memory is used again, and not given back.
#[derive(Default)]
pub(super) struct Slab {
    chunks: Vec<Box<[Option<Connection>; CHUNK]>>,
    free: Vec<u32>,
    /// Places below were used.
    used: u32,
}

impl Slab {
    /// Takes a place for a connection.
    pub(super) fn put(&mut self, connection: Connection) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            if self.used as usize == self.chunks.len() * CHUNK {
                self.chunks.push(Box::new([const { None }; CHUNK]));
            }
            self.used += 1;
            self.used - 1
        });
        let (chunk, place) = split(at);
        self.chunks[chunk][place] = Some(connection);
        at
    }

    /// Frees a place.
    pub(super) fn take(&mut self, at: u32) -> Option<Connection> {
        let (chunk, place) = split(at);
        let connection = self.chunks.get_mut(chunk)?[place].take()?;
        self.free.push(at);
        Some(connection)
    }

    /// What is at a place.
    #[inline]
    pub(super) fn at(&self, at: u32) -> Option<&Connection> {
        let (chunk, place) = split(at);
        self.chunks.get(chunk)?[place].as_ref()
    }

    /// What is at a place, to be changed.
    #[inline]
    pub(super) fn at_mut(&mut self, at: u32) -> Option<&mut Connection> {
        let (chunk, place) = split(at);
        self.chunks.get_mut(chunk)?[place].as_mut()
    }

    /// What is at a place that is in use.
    ///
    /// # Panics
    /// If it is not.
    #[inline]
    pub(super) fn present(&mut self, at: u32) -> &mut Connection {
        self.at_mut(at).expect("rows and indexes hold places in use only")
    }

    /// One more than the highest place that was ever in use.
    pub(super) fn end(&self) -> u32 {
        self.used
    }
}

#[inline]
fn split(at: u32) -> (usize, usize) {
    (at as usize / CHUNK, at as usize % CHUNK)
}

/// Connections that get memory together.
const CHUNK: usize = 16;
