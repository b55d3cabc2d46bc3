//! Where a filter meets the host: the exports that [`filter!`](crate::filter!)
//! writes, and the imports. The only file of the SDK with `unsafe`.
//!
//! The host calls one function at a time and none again before it has returned,
//! so a filter is never entered twice. Pointers that the host passes come from
//! `millrace_alloc`, sized and aligned as `ABI.md` says.
#![allow(unsafe_code)]

/// Names the hooks of a filter, and exports it to the host.
///
/// ```
/// # use millrace_filter::prelude::*;
/// # struct Watch;
/// # impl Filter for Watch {
/// #     const MANIFEST: Manifest = Manifest::new("watch", "1.0.0").wants(&[Capability::Inspect]);
/// #     type Config = ();
/// #     fn new(_: (), _: &mut Setup) -> Result<Self, Error> { Ok(Self) }
/// # }
/// filter!(Watch: flow, packet, tick);
/// ```
///
/// Write it once in a crate. The hooks are `flow`, `packet`, `tick` and, for filters that subscribe
/// to tables, `update`; hooks that are not named are not called.
#[macro_export]
macro_rules! filter {
    ($filter:ty: $($hook:ident),+ $(,)?) => {
        #[allow(unsafe_code)]
        const _: () = {
            /// The manifest, as JSON.
            const JSON: $crate::config::Text =
                <$filter as $crate::Filter>::MANIFEST.to_json(
                    &[$(stringify!($hook)),+],
                    <<$filter as $crate::Filter>::Config as $crate::Config>::SCHEMA.text(),
                );

            // the section's name is `millrace_abi::names::MANIFEST_SECTION`
            #[cfg(target_family = "wasm")]
            #[used]
            #[unsafe(link_section = "millrace")]
            static MANIFEST: [u8; JSON.len()] = JSON.to_array();

            #[cfg(target_family = "wasm")]
            mod exports {
                use super::*;

                static FILTER: $crate::boundary::Home<$filter> = $crate::boundary::Home::new();

                #[unsafe(no_mangle)]
                extern "C" fn millrace_alloc(len: u32) -> *mut u8 {
                    $crate::boundary::alloc(len)
                }

                #[unsafe(no_mangle)]
                unsafe extern "C" fn millrace_configure(json: *mut u8, len: u32) -> i32 {
                    // SAFETY: holds because the host gives memory from `millrace_alloc`.
                    unsafe { $crate::boundary::configure(&FILTER, json, len) }
                }

                $( $crate::__export_hook!($hook); )+
            }

            // without WebAssembly there is no host to export to, but the manifest is still checked
            #[cfg(not(target_family = "wasm"))]
            const _: $crate::config::Text = JSON;
        };
    };
}

#[macro_export]
#[doc(hidden)]
macro_rules! __export_hook {
    (flow) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn millrace_flow(
            slots: *const $crate::Slot,
            decisions: *mut $crate::Decision,
            n: u32,
        ) -> i32 {
            // SAFETY: holds because the host gives `n` of each, in memory from `millrace_alloc`.
            unsafe { $crate::boundary::flow(&FILTER, slots, decisions, n) }
        }
    };
    (packet) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn millrace_packet(
            slots: *const $crate::Slot,
            packets: *mut $crate::abi::PacketRecord,
            n: u32,
        ) -> i32 {
            // SAFETY: holds because the host gives `n` of each, in memory from `millrace_alloc`,
            // and each record speaks of such memory.
            unsafe { $crate::boundary::packet(&FILTER, slots, packets, n) }
        }
    };
    (update) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn millrace_update(changes: *mut u8, len: u32) -> i32 {
            // SAFETY: holds because the host gives memory from `millrace_alloc`.
            unsafe { $crate::boundary::update(&FILTER, changes, len) }
        }
    };
    (tick) => {
        #[unsafe(no_mangle)]
        extern "C" fn millrace_tick(now_ns: u64) -> i32 {
            $crate::boundary::tick(&FILTER, now_ns)
        }
    };
}

#[cfg(target_family = "wasm")]
pub use wasm::*;

#[cfg(target_family = "wasm")]
mod wasm {
    use std::alloc::Layout;
    use std::cell::UnsafeCell;
    use std::slice;

    use crate::abi::{Decision, PacketRecord, Slot, limits};
    use crate::filter::{self, Filter};
    use crate::packet::Packet;
    use crate::tables::Update;
    use crate::{Error, host};

    /// Where the one filter of a module lives.
    pub struct Home<F>(UnsafeCell<Option<F>>);

    // SAFETY: holds because a module has one thread: it is built without shared memory, which the
    // host refuses.
    unsafe impl<F> Sync for Home<F> {}

    impl<F> Home<F> {
        /// Without a filter, until the first configuration.
        #[allow(clippy::new_without_default, reason = "`Default` is not const")]
        pub const fn new() -> Self {
            Self(UnsafeCell::new(None))
        }

        #[allow(clippy::mut_from_ref, reason = "the host enters one export at a time")]
        fn filter(&self) -> &mut Option<F> {
            // SAFETY: holds because only the exports call this, once each, and the host does not
            // call one before the other has returned.
            unsafe { &mut *self.0.get() }
        }
    }

    /// `millrace_alloc`.
    pub fn alloc(len: u32) -> *mut u8 {
        match layout(len) {
            // SAFETY: holds because the layout has at least one byte.
            Some(layout) => unsafe { std::alloc::alloc(layout) },
            None => std::ptr::null_mut(),
        }
    }

    fn layout(len: u32) -> Option<Layout> {
        Layout::from_size_align(len.max(1) as usize, limits::ALIGNMENT as usize).ok()
    }

    /// `millrace_configure`: the text is the guest's again, and freed.
    ///
    /// # Safety
    /// `json` is from [`alloc`] with this `len`, holds `len` bytes, and is not used afterwards.
    pub unsafe fn configure<F: Filter>(home: &Home<F>, json: *mut u8, len: u32) -> i32 {
        std::panic::set_hook(Box::new(|panic| host::fail(&panic.to_string())));
        // SAFETY: holds as the caller says.
        let text = unsafe { slice::from_raw_parts(json, len as usize) };
        let outcome = filter::configure(text);
        // SAFETY: holds as the caller says; `text` is not used any more.
        unsafe { free(json, len) };
        match outcome {
            Ok(filter) => {
                *home.filter() = Some(filter);
                0
            }
            Err(error) => refuse(&error),
        }
    }

    /// `millrace_update`: the changes are the guest's again, and freed.
    ///
    /// # Safety
    /// As [`configure`].
    pub unsafe fn update<F: Filter>(home: &Home<F>, changes: *mut u8, len: u32) -> i32 {
        // SAFETY: holds as the caller says.
        let octets = unsafe { slice::from_raw_parts(changes, len as usize) };
        let mut outcome = Ok(());
        let called = with(home, |filter| outcome = filter.update(Update::new(octets)));
        // SAFETY: holds as the caller says; `octets` is not used any more.
        unsafe { free(changes, len) };
        outcome.map_or_else(|error| refuse(&error), |()| called)
    }

    /// Frees what the host was given.
    ///
    /// # Safety
    /// `memory` is from [`alloc`] with this `len`, and is not used afterwards.
    unsafe fn free(memory: *mut u8, len: u32) {
        if let Some(layout) = layout(len) {
            // SAFETY: holds as the caller says.
            unsafe { std::alloc::dealloc(memory, layout) };
        }
    }

    /// `millrace_flow`.
    ///
    /// # Safety
    /// `slots` and `decisions` are aligned and have `n` initialised elements, apart from each
    /// other.
    pub unsafe fn flow<F: Filter>(
        home: &Home<F>,
        slots: *const Slot,
        decisions: *mut Decision,
        n: u32,
    ) -> i32 {
        // SAFETY: holds as the caller says.
        let slots = unsafe { slice::from_raw_parts(slots, n as usize) };
        // SAFETY: holds as the caller says.
        let decisions = unsafe { slice::from_raw_parts_mut(decisions, n as usize) };
        with(home, |filter| filter.flows(slots, decisions))
    }

    /// `millrace_packet`.
    ///
    /// # Safety
    /// As [`flow`]; and each record's `data` has `capacity` bytes, apart from all others.
    pub unsafe fn packet<F: Filter>(
        home: &Home<F>,
        slots: *const Slot,
        packets: *mut PacketRecord,
        n: u32,
    ) -> i32 {
        // SAFETY: holds as the caller says.
        let slots = unsafe { slice::from_raw_parts(slots, n as usize) };
        // SAFETY: holds as the caller says.
        let packets = unsafe { slice::from_raw_parts_mut(packets, n as usize) };
        with(home, |filter| {
            for record in packets {
                let Some(slot) = slots.get(record.slot as usize) else { continue };
                let (data, capacity) = (record.data as *mut u8, record.capacity as usize);
                // SAFETY: holds as the caller says.
                let room = unsafe { slice::from_raw_parts_mut(data, capacity) };
                filter.packet(slot, &mut Packet::new(record, room));
            }
        })
    }

    /// `millrace_tick`.
    pub fn tick<F: Filter>(home: &Home<F>, now_ns: u64) -> i32 {
        with(home, |filter| filter.tick(now_ns))
    }

    fn with<F: Filter>(home: &Home<F>, call: impl FnOnce(&mut F)) -> i32 {
        match home.filter() {
            Some(filter) => {
                call(filter);
                0
            }
            None => refuse(&Error::from("it was called before it was configured")),
        }
    }

    fn refuse(error: &Error) -> i32 {
        if !error.is_silent() {
            host::fail(&error.to_string());
        }
        1
    }
}

/// What the host offers, with Rust's types.
#[cfg(target_family = "wasm")]
pub(crate) mod imports {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use crate::Error;
    use crate::abi::MapShape;
    use crate::abi::names::{emit_status, map_status};

    mod raw {
        use crate::abi::MapShape;

        #[link(wasm_import_module = "millrace")]
        unsafe extern "C" {
            pub(super) fn log(level: u32, text: *const u8, len: u32);
            pub(super) fn fail(text: *const u8, len: u32);
            pub(super) safe fn now() -> u64;
            pub(super) fn metric(kind: u32, name: *const u8, len: u32, value: *const u64) -> i32;
            pub(super) fn map_open(name: *const u8, len: u32, shape: *const MapShape) -> i32;
            pub(super) fn map_get(map: i32, key: *const u8, value: *mut u8) -> i32;
            pub(super) fn map_set(map: i32, key: *const u8, value: *const u8) -> i32;
            pub(super) fn map_remove(map: i32, key: *const u8) -> i32;
            pub(super) fn map_add(map: i32, key: *const u8, delta: i64, out: *mut u64) -> i32;
            pub(super) fn map_exchange(
                map: i32,
                key: *const u8,
                expected: *const u8,
                value: *const u8,
            ) -> i32;
            pub(super) fn map_get_all(
                map: i32,
                n: u32,
                keys: *const u8,
                values: *mut u8,
                found: *mut u8,
            ) -> i32;
            pub(super) fn map_exchange_all(
                map: i32,
                n: u32,
                keys: *const u8,
                found: *const u8,
                expected: *const u8,
                values: *const u8,
                done: *mut i8,
            ) -> i32;
            pub(super) fn emit(port: u32, frame: *const u8, len: u32) -> i32;
        }
    }

    pub(crate) fn log(level: u32, text: &str) {
        // SAFETY: holds because the host reads the text's bytes, which are borrowed.
        unsafe { raw::log(level, text.as_ptr(), text.len() as u32) }
    }

    pub(crate) fn fail(text: &str) {
        // SAFETY: holds as in `log`.
        unsafe { raw::fail(text.as_ptr(), text.len() as u32) }
    }

    pub(crate) fn now_ns() -> u64 {
        raw::now()
    }

    /// The host keeps the address: the value is never freed.
    pub(crate) fn metric(kind: u32, name: &str, value: Arc<[AtomicU64]>) -> Result<(), Error> {
        let address = Arc::into_raw(value).cast();
        // SAFETY: holds because the name is borrowed, and the value, aligned and as long as its
        // kind says, is leaked.
        match unsafe { raw::metric(kind, name.as_ptr(), name.len() as u32, address) } {
            map_status::OK => Ok(()),
            _ => Err(Error::new(format!("the host refuses the metric `{name}`"))),
        }
    }

    pub(crate) fn map_open(name: &str, shape: &MapShape) -> Result<i32, Error> {
        // SAFETY: holds because name and shape are borrowed.
        match unsafe { raw::map_open(name.as_ptr(), name.len() as u32, shape) } {
            // the host says why
            refused if refused < 0 => Err(Error::silent()),
            handle => Ok(handle),
        }
    }

    /// Keys and values are as long as the map's shape says: [`Map`](crate::Map) sees to it.
    #[inline]
    pub(crate) fn map_get(map: i32, key: &[u8], value: &mut [u8]) -> i32 {
        // SAFETY: holds because both are borrowed, and as long as the host expects.
        unsafe { raw::map_get(map, key.as_ptr(), value.as_mut_ptr()) }
    }

    #[inline]
    pub(crate) fn map_set(map: i32, key: &[u8], value: &[u8]) -> i32 {
        // SAFETY: holds as in `map_get`.
        unsafe { raw::map_set(map, key.as_ptr(), value.as_ptr()) }
    }

    #[inline]
    pub(crate) fn map_remove(map: i32, key: &[u8]) -> i32 {
        // SAFETY: holds as in `map_get`.
        unsafe { raw::map_remove(map, key.as_ptr()) }
    }

    #[inline]
    pub(crate) fn map_add(map: i32, key: &[u8], delta: i64, sum: &mut u64) -> i32 {
        // SAFETY: holds as in `map_get`.
        unsafe { raw::map_add(map, key.as_ptr(), delta, sum) }
    }

    #[inline]
    pub(crate) fn map_exchange(map: i32, key: &[u8], expected: Option<&[u8]>, value: &[u8]) -> i32 {
        let expected = expected.map_or(std::ptr::null(), <[u8]>::as_ptr);
        // SAFETY: holds as in `map_get`; null stands for "no entry".
        unsafe { raw::map_exchange(map, key.as_ptr(), expected, value.as_ptr()) }
    }

    /// `found` has a place for each entry, as `keys` and `values` have.
    #[inline]
    pub(crate) fn map_get_all(map: i32, keys: &[u8], values: &mut [u8], found: &mut [u8]) -> i32 {
        let n = found.len() as u32;
        let (values, found) = (values.as_mut_ptr(), found.as_mut_ptr());
        // SAFETY: holds because all are borrowed, and as long as the host expects for `n` entries.
        unsafe { raw::map_get_all(map, n, keys.as_ptr(), values, found) }
    }

    /// All have places for as many entries as `done` has.
    #[inline]
    pub(crate) fn map_exchange_all(
        map: i32,
        keys: &[u8],
        found: &[u8],
        expected: &[u8],
        values: &[u8],
        done: &mut [i8],
    ) -> i32 {
        let n = done.len() as u32;
        let (keys, found, expected) = (keys.as_ptr(), found.as_ptr(), expected.as_ptr());
        let (values, done) = (values.as_ptr(), done.as_mut_ptr());
        // SAFETY: holds as in `map_get_all`.
        unsafe { raw::map_exchange_all(map, n, keys, found, expected, values, done) }
    }

    pub(crate) fn emit(port: u16, frame: &[u8]) -> bool {
        // SAFETY: holds because the frame is borrowed.
        unsafe { raw::emit(port.into(), frame.as_ptr(), frame.len() as u32) == emit_status::OK }
    }
}
