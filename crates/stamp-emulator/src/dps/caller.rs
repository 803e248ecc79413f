//! Calls a webhook as DPS does, without a DPS: on a connection that is kept, for measurements.

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Uri;
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::webhook::{ANSWER_BYTES_MAX, request};
use crate::{Authority, EmulatorError};

/// A connection to a webhook over HTTPS. Dropping it closes it.
#[derive(Debug)]
pub struct WebhookCaller {
    uri: Uri,
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

impl WebhookCaller {
    /// Connects to an `https` address whose certificate this authority signed.
    ///
    /// # Errors
    /// [`EmulatorError::Webhook`] for an address that is none or does not answer, [`EmulatorError::Tls`].
    pub async fn connect(url: &str, authority: &Authority) -> Result<Self, EmulatorError> {
        let failed = |why: String| failed(url, why);
        let uri: Uri = url.parse().map_err(|_| failed("is no address".into()))?;
        let (Some("https"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(failed("is not https".into()));
        };
        let place = (host, uri.port_u16().unwrap_or(443));
        let stream = TcpStream::connect(place)
            .await
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|error| failed(error.to_string()))?;
        let name = ServerName::try_from(host.to_owned()).map_err(|e| failed(e.to_string()))?;
        let stream = authority.connector()?.connect(name, stream).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| failed(error.to_string()))?;
        // Its end is seen by the next call.
        let connection = tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            uri,
            sender,
            connection,
        })
    }

    /// One call: status and body of the answer. Not cancel-safe: the connection is of no use then.
    ///
    /// # Errors
    /// [`EmulatorError::Webhook`] when there is no whole answer.
    pub async fn call(&mut self, body: &Value) -> Result<(u16, Vec<u8>), EmulatorError> {
        let answer = async {
            let request = request(&self.uri, body)?;
            let answer = self.sender.send_request(request).await;
            let answer = answer.map_err(|error| error.to_string())?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
            let body = body.collect().await.map_err(|error| error.to_string())?;
            Ok((status, body.to_bytes().to_vec()))
        };
        let answer: Result<_, String> = answer.await;
        answer.map_err(|why| failed(&self.uri.to_string(), why))
    }
}

impl Drop for WebhookCaller {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

fn failed(url: &str, why: String) -> EmulatorError {
    let url = url.split('?').next().unwrap_or_default().to_owned();
    EmulatorError::Webhook { url, why }
}
