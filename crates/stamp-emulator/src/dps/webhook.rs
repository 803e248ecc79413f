//! Custom allocation: asks a webhook which hub a device gets. One call, no repetition.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::DpsError;
use crate::iothub::Change;

/// Largest answer.
pub(super) const ANSWER_BYTES_MAX: usize = 256 * 1024;

/// What a webhook answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) host: String,
    pub(crate) twin: Option<Change>,
    pub(crate) payload: Option<Value>,
}

/// Calls a webhook.
///
/// # Errors
/// 400207 for anything but a 200 with a hub's name, in time.
pub(crate) async fn call(
    url: &str,
    body: &Value,
    tls: &TlsConnector,
    limit: Duration,
) -> Result<Answer, DpsError> {
    match tokio::time::timeout(limit, post(url, body, tls)).await {
        Ok(Ok((StatusCode::OK, bytes))) => parse(&bytes),
        Ok(Ok((status, _))) => Err(DpsError::webhook(format!(
            "Custom allocation failed with status code: {}",
            status.as_u16()
        ))),
        Ok(Err(error)) => Err(DpsError::webhook(format!(
            "Custom allocation failed: {error}"
        ))),
        Err(_elapsed) => Err(DpsError::webhook(
            "Custom allocation failed: no answer in time",
        )),
    }
}

/// Reads names without regard to case: the contract is written in two spellings.
fn parse(bytes: &[u8]) -> Result<Answer, DpsError> {
    let wrong = |text: &str| DpsError::webhook(format!("Custom allocation failed: {text}"));
    let body: Value = serde_json::from_slice(bytes).map_err(|_| wrong("the answer is not JSON"))?;
    let field = |name: &str| {
        let mut members = body.as_object().into_iter().flatten();
        let found = members.find(|(member, _)| member.eq_ignore_ascii_case(name));
        found
            .map(|(_, value)| value)
            .filter(|value| !value.is_null())
    };
    let host = field("iotHubHostName").and_then(Value::as_str);
    let twin = field("initialTwin").map(Change::parse).transpose();
    Ok(Answer {
        host: host
            .ok_or_else(|| wrong("the answer names no hub"))?
            .to_owned(),
        twin: twin.map_err(|error| wrong(&format!("initialTwin: {}", error.text)))?,
        payload: field("payload").or(field("returnData")).cloned(),
    })
}

async fn post(url: &str, body: &Value, tls: &TlsConnector) -> Result<(StatusCode, Bytes), String> {
    let uri: Uri = url.parse().map_err(|_| format!("{url:?} is no address"))?;
    let host = uri.host().ok_or_else(|| format!("{url:?} names no host"))?;
    let secure = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(format!("{url:?} is neither http nor https")),
    };
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|e| e.to_string())?;
    if !secure {
        return exchange(stream, &uri, body).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let stream = tls.connect(name, stream).await.map_err(|e| e.to_string())?;
    exchange(stream, &uri, body).await
}

/// A call, as DPS makes it.
pub(super) fn request(uri: &Uri, body: &Value) -> Result<Request<Full<Bytes>>, String> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    Request::post(path)
        .header(header::HOST, authority)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(|e| e.to_string())
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
    body: &Value,
) -> Result<(StatusCode, Bytes), String> {
    let mut request = request(uri, body)?;
    let close = header::HeaderValue::from_static("close");
    request.headers_mut().insert(header::CONNECTION, close);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| e.to_string())?;
    let answer = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| e.to_string())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        Ok((status, body.map_err(|e| e.to_string())?.to_bytes()))
    };
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The connection may be over before the answer was looked at.
        _ended = &mut connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_in_both_spellings() {
        for name in ["iotHubHostName", "iotHubHostname", "IoTHubHostName"] {
            let body = format!("{{\"{name}\":\"h\",\"payload\":{{\"a\":1}}}}");
            let answer = parse(body.as_bytes()).unwrap();
            assert_eq!((answer.host.as_str(), answer.twin), ("h", None));
            assert_eq!(answer.payload, Some(serde_json::json!({"a": 1})));
        }
        for body in [
            "",
            "{}",
            "{\"iotHubHostName\":3}",
            "{\"iotHubHostName\":\"h\",\"initialTwin\":{\"tags\":1}}",
        ] {
            assert_eq!(parse(body.as_bytes()).unwrap_err().code, 400_207, "{body}");
        }
    }
}
