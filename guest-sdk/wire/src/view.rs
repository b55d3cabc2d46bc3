//! What views have in common, written once: ways in and out, and the ports of transports.
//!
//! A view is a type of its own in its module, where it adds `check` and the fields.

/// Declares a view of a buffer. The module gives it `check(&self) -> Result<(), Malformed>`.
macro_rules! view {
    ($(#[$about:meta])* pub struct $View:ident) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy)]
        pub struct $View<B> {
            bytes: B,
        }

        impl<B: AsRef<[u8]>> $View<B> {
            /// A view without a look at the octets.
            #[inline]
            pub const fn new_unchecked(bytes: B) -> Self {
                Self { bytes }
            }

            /// A view of octets that pass [`check`](Self::check).
            #[inline]
            pub fn new_checked(bytes: B) -> Result<Self, $crate::Malformed> {
                let view = Self::new_unchecked(bytes);
                view.check()?;
                Ok(view)
            }

            /// The buffer.
            #[inline]
            pub fn into_inner(self) -> B {
                self.bytes
            }

            #[inline]
            fn octets(&self) -> &[u8] {
                self.bytes.as_ref()
            }
        }
    };
}

/// The ports of a view of a transport header, which opens with them ([`Ports`](crate::Ports)).
macro_rules! ported {
    ($View:ident) => {
        impl<B: AsRef<[u8]>> $View<B> {
            /// The sender's port.
            #[inline]
            pub fn source_port(&self) -> u16 {
                self.ports().source
            }

            /// The receiver's port.
            #[inline]
            pub fn destination_port(&self) -> u16 {
                self.ports().destination
            }

            /// Both ports.
            #[inline]
            pub fn ports(&self) -> $crate::Ports {
                $crate::Ports::read(self.octets())
            }
        }

        /// Setters leave the checksum alone.
        impl<B: AsRef<[u8]> + AsMut<[u8]>> $View<B> {
            /// Sets the sender's port.
            #[inline]
            pub fn set_source_port(&mut self, port: u16) {
                $crate::Ports { source: port, ..self.ports() }.emit(self.bytes.as_mut());
            }

            /// Sets the receiver's port.
            #[inline]
            pub fn set_destination_port(&mut self, port: u16) {
                $crate::Ports { destination: port, ..self.ports() }.emit(self.bytes.as_mut());
            }
        }
    };
}

pub(crate) use {ported, view};
