//! An HTTP/1.1 server that answers other programs' requests.
//!
//! It reads whole requests within limits, over TLS where it is told so, gives them to a [`Handler`]
//! and sends its [`Reply`]. What a request means, who may send it and what is answered is the
//! handler's business; nothing here knows a path or a body's format. [`Access`] is for handlers that
//! let callers in by key or certificate.

mod access;
mod error;
mod message;
mod server;
mod taken;
mod tls;

pub use access::{Access, AccessConfig, AccessError};
pub use error::HttpError;
pub use message::{Handler, Refusal, Reply, Request};
pub use server::{Limits, Served, serve};
pub use tls::{Tls, TlsFiles};
