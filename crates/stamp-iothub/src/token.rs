//! What proves who we are: tokens that are made or fetched, kept, and renewed before they end.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::Method;
use hyper::header::HeaderValue;
use percent_encoding::percent_encode;
use serde_json::Value;
use sha2::Sha256;
use tokio::sync::Mutex;

use crate::error::{ServiceError, bad};
use crate::failure::{Asked, failure};
use crate::http::{Call, HttpsClient};
use crate::path::{ESCAPED, path};

/// How long a shared access signature is made for.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// How long before its end a token is replaced.
const RENEWED_BEFORE_END: Duration = Duration::from_secs(600);
/// Largest token file that is read. Kubernetes writes about 1 KB.
const TOKEN_FILE_BYTES_MAX: u64 = 64 << 10;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What tokens are made from.
#[derive(Debug)]
pub(crate) enum Credential {
    /// The key of a shared access policy, base64.
    SharedKey { policy: String, key: Secret },
    /// A token that somebody else made; it cannot be renewed.
    SharedSignature(Secret),
    /// A Kubernetes service account that Entra trusts.
    WorkloadIdentity(Box<WorkloadIdentity>),
}

/// A federated credential of Entra: the token file is a proof that its issuer takes for our own.
pub(crate) struct WorkloadIdentity {
    pub(crate) issuer: HttpsClient,
    pub(crate) tenant: String,
    pub(crate) client: String,
    pub(crate) token_file: PathBuf,
    /// What the token is for, such as `https://iothubs.azure.net/.default`.
    pub(crate) scope: &'static str,
}

impl std::fmt::Debug for WorkloadIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadIdentity")
            .field("tenant", &self.tenant)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

/// An `Authorization` header.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    /// `None` for one that cannot be renewed.
    renew_at: Option<SystemTime>,
}

/// Keeps the token of one host.
#[derive(Debug)]
pub(crate) struct Tokens {
    credential: Credential,
    /// The host's name without a port.
    resource: String,
    kept: Mutex<Option<Token>>,
}

impl Tokens {
    pub(crate) fn new(credential: Credential, resource: &str) -> Self {
        Self {
            credential,
            resource: resource.to_owned(),
            kept: Mutex::new(None),
        }
    }

    /// The token to send now, and whether it was kept from an earlier request. One request at a
    /// time fetches a new one; the others wait for it.
    pub(crate) async fn get(&self) -> Result<(HeaderValue, bool), ServiceError> {
        let mut kept = self.kept.lock().await;
        let now = SystemTime::now();
        if let Some(token) = kept.as_ref()
            && token.renew_at.is_none_or(|at| now < at)
        {
            return Ok((token.header.clone(), true));
        }
        let token = self.make(now).await?;
        let header = token.header.clone();
        *kept = Some(token);
        Ok((header, false))
    }

    /// Forgets a token that was refused, so that the next attempt has a new one.
    pub(crate) async fn refused(&self, header: &HeaderValue) {
        let mut kept = self.kept.lock().await;
        kept.take_if(|token| token.header == *header);
    }

    async fn make(&self, now: SystemTime) -> Result<Token, ServiceError> {
        match &self.credential {
            Credential::SharedSignature(text) => Ok(Token {
                header: secret_header(&text.0)?,
                renew_at: None,
            }),
            Credential::SharedKey { policy, key } => {
                let end = now + LIFETIME;
                let end_s = end.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
                Ok(Token {
                    header: secret_header(&sign(&self.resource, policy, &key.0, end_s)?)?,
                    renew_at: Some(end - RENEWED_BEFORE_END),
                })
            }
            Credential::WorkloadIdentity(identity) => {
                let fetched = identity.fetch(now).await;
                fetched.map_err(|source| ServiceError::Token {
                    peer: self.resource.clone(),
                    source: Box::new(source),
                })
            }
        }
    }
}

/// `SharedAccessSignature sr=..&sig=..&se=..&skn=..`: the HMAC-SHA256 of the escaped resource and the
/// end in seconds since 1970, by the key's bytes.
fn sign(resource: &str, policy: &str, key: &str, end_s: u64) -> Result<String, ServiceError> {
    let escape = |text: &str| percent_encode(text.as_bytes(), &ESCAPED).to_string();
    let Ok(key) = STANDARD.decode(key) else {
        return bad("connection-string", "SharedAccessKey is not base64");
    };
    let resource = escape(resource);
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    mac.update(format!("{resource}\n{end_s}").as_bytes());
    let signature = escape(&STANDARD.encode(mac.finalize().into_bytes()));
    let policy = escape(policy);
    Ok(format!(
        "SharedAccessSignature sr={resource}&sig={signature}&se={end_s}&skn={policy}"
    ))
}

fn secret_header(text: &str) -> Result<HeaderValue, ServiceError> {
    let Ok(mut header) = HeaderValue::from_str(text) else {
        return bad("connection-string", "the token is no header text");
    };
    header.set_sensitive(true);
    Ok(header)
}

impl WorkloadIdentity {
    /// Trades the file's token for one of the service: OAuth 2.0's client credentials with a signed
    /// assertion (RFC 7523, section 2.2).
    async fn fetch(&self, now: SystemTime) -> Result<Token, ServiceError> {
        let assertion = self.assertion()?;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", &assertion.0),
            ("scope", self.scope),
        ];
        let field = |(name, value): (&str, &str)| {
            format!("{name}={}", percent_encode(value.as_bytes(), &ESCAPED))
        };
        let form = form.map(field).join("&");
        let call = Call {
            method: Method::POST,
            path: path(&[&self.tenant, "oauth2", "v2.0", "token"]),
            query: String::new(),
            headers: Vec::new(),
            content_type: "application/x-www-form-urlencoded",
            body: Some(Bytes::from(form)),
            // A token that nobody got is nobody's.
            is_write: false,
        };
        let reply = self.issuer.send(&call, None).await?;
        if reply.status != 200 {
            let asked = Asked {
                peer: &self.issuer.host().to_string(),
                request: &call.name(),
                is_write: false,
                token_was_kept: false,
            };
            let now_s = seconds(now);
            return Err(failure(
                asked,
                reply.status,
                &reply.headers,
                &reply.body,
                now_s,
            ));
        }
        let answer: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let (Some(token), Some(lives_s)) = (
            answer["access_token"].as_str(),
            answer["expires_in"].as_u64(),
        ) else {
            return Err(self.issuer.wrong(&call, "no access_token and expires_in"));
        };
        let lives = Duration::from_secs(lives_s);
        // A short one is used for half of its life.
        let used = lives.saturating_sub(RENEWED_BEFORE_END).max(lives / 2);
        Ok(Token {
            header: secret_header(&format!("Bearer {token}"))?,
            renew_at: Some(now + used),
        })
    }

    /// Read anew each time: Kubernetes writes a new one before the old one ends.
    fn assertion(&self) -> Result<Secret, ServiceError> {
        let path = &self.token_file;
        let refuse = |problem: String| ServiceError::BadConfig {
            key: "AZURE_FEDERATED_TOKEN_FILE",
            problem: format!("{}: {problem}", path.display()),
        };
        let size = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?;
        if size.len() > TOKEN_FILE_BYTES_MAX {
            return Err(refuse(format!("over {TOKEN_FILE_BYTES_MAX} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
        Ok(Secret(text.trim().to_owned()))
    }
}

/// Seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod entra_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_is_kept_until_it_is_refused() {
        let key = Secret("c2VjcmV0".to_owned());
        let policy = "owner".to_owned();
        let tokens = Tokens::new(Credential::SharedKey { policy, key }, "h.example");
        let (first, kept) = tokens.get().await.unwrap();
        assert!(!kept);
        let (second, kept) = tokens.get().await.unwrap();
        assert!(kept && second == first);
        tokens.refused(&first).await;
        assert!(!tokens.get().await.unwrap().1);
    }

    #[test]
    fn the_key_signs_the_escaped_resource_and_the_end() {
        let token = sign("h.example", "owner", "c2VjcmV0", 1_000).unwrap();
        // openssl: printf 'h.example\n1000' | openssl dgst -sha256 -hmac secret -binary | base64
        assert_eq!(
            token,
            "SharedAccessSignature sr=h.example&sig=A0FsN1hqzIBtBiSUDnIzJgYIecBrLO3f%2BIOluoH3QMo%3D&se=1000&skn=owner"
        );
        assert!(sign("h", "p", "no base64!", 1).is_err());
    }

    #[test]
    fn secrets_are_not_printed() {
        let secret = Credential::SharedSignature(Secret("abc".to_owned()));
        assert!(!format!("{secret:?}").contains("abc"));
    }
}
