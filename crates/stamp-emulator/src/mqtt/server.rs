//! Accepts connections, one task each.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Broker, connection};

/// Open connections of one server; further ones are closed at once.
const CONNECTIONS_MAX: usize = 10_000;
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);

/// Serves until `stop`.
pub(crate) async fn serve<B: Broker>(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    broker: Arc<B>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                    connections.spawn(admit(stream, tls.clone(), Arc::clone(&broker), stop.clone()));
                }
                Ok(_) => tracing::warn!(max = CONNECTIONS_MAX, "too many MQTT connections"),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    let _ = tokio::time::timeout(Duration::from_millis(100), stop.cancelled()).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn admit<B: Broker>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    broker: Arc<B>,
    stop: CancellationToken,
) {
    let _delay = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return connection::run(stream, &broker, stop).await;
    };
    match tokio::time::timeout(HANDSHAKE_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => connection::run(stream, &broker, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client broke off the handshake"),
        Err(_elapsed) => tracing::debug!("a handshake passed its time limit"),
    }
}
