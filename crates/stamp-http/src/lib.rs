//! An HTTP/1.1 server that answers other programs' requests.
//!
//! It reads whole requests within limits, over TLS where it is told so, gives them to a [`Handler`]
//! and sends its [`Reply`]. What a request means, who may send it and what is answered is the
//! handler's business; nothing here knows a path, a key or a body's format.

mod error;
mod message;
mod server;
mod taken;
mod tls;

pub use error::HttpError;
pub use message::{Handler, Refusal, Reply, Request};
pub use server::{Limits, Served, serve};
pub use tls::{Tls, TlsFiles};
