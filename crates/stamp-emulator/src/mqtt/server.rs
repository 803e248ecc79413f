//! One task for each connection.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Broker, connection};
use crate::net;

/// Open connections of one server; further ones are closed at once.
const CONNECTIONS_MAX: usize = 10_000;

/// Serves until `stop`.
pub(crate) async fn serve<B: Broker>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    broker: Arc<B>,
    stop: CancellationToken,
) {
    net::accept(listener, "MQTT", CONNECTIONS_MAX, stop.clone(), |stream| {
        let (tls, broker, stop) = (tls.clone(), Arc::clone(&broker), stop.clone());
        async move {
            if let Some(stream) = net::secured(stream, tls).await {
                connection::run(stream, &broker, stop).await;
            }
        }
    })
    .await;
}
