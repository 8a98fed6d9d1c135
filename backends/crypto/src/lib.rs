//! What users entrust to us with `--object`: secrets and TLS credentials; and TLS connections.
//!
//! Sources: RFC 8446 through rustls; the object types and their files as QEMU's manual describes them
//! ("TLS setup for network services"). Not here: what rustls cannot do (pre-shared keys and anonymous
//! Diffie-Hellman), authorisation by a certificate's name, keys that a passphrase locks.

mod objects;
mod secret;
mod tls;

pub use objects::{Object, Objects};
pub use tls::{Channel, Credentials, Endpoint, Socket};
