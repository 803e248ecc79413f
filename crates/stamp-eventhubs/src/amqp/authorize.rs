//! Proves to the hub who we are: puts a token to the connection's `$cbs` node.

use std::time::SystemTime;

use fe2o3_amqp_types::primitives::{SimpleValue, Timestamp, Value};
use tokio::time::Instant;

use super::connection::Connection;
use super::request::Requests;
use super::token::Token;
use crate::HubError;
use crate::config::Credential;
use crate::error::Asked;

/// The right to use one entity over one connection, for a limited time.
pub(crate) struct Authorization {
    credential: Credential,
    audience: String,
    /// `None` without a credential: nothing is put, nothing has to be renewed.
    links: Option<Requests>,
    pub(super) renewal: Option<Renewal>,
}

/// A token on its way to `$cbs`.
pub(crate) struct TokenQuestion {
    /// What the node is asked to do.
    pub(crate) properties: Vec<(&'static str, SimpleValue)>,
    /// The token.
    pub(crate) body: Value,
    /// When it is to be replaced, once the hub has taken it.
    pub(crate) renewal: Option<Renewal>,
}

impl TokenQuestion {
    /// Makes a token for `audience`; `None` when there is no credential.
    pub(crate) fn make(credential: &Credential, audience: &str) -> Option<Self> {
        let token = Token::make(credential, audience, SystemTime::now())?;
        let mut properties: Vec<(&'static str, SimpleValue)> = vec![
            ("operation", "put-token".into()),
            ("type", "servicebus.windows.net:sastoken".into()),
            ("name", audience.into()),
        ];
        if let Some(end) = token.expires_at.and_then(milliseconds) {
            properties.push(("expiration", Timestamp::from_milliseconds(end).into()));
        }
        let renewal = token.renew_at().map(|by_clock| Renewal {
            by_clock,
            by_time_passed: Instant::now() + Token::RENEWED_AFTER,
        });
        Some(Self {
            properties,
            body: Value::String(token.text),
            renewal,
        })
    }
}

impl TokenQuestion {
    /// A token that says nothing, for a conversation without a hub.
    pub(crate) fn for_tests() -> Self {
        Self {
            properties: Vec::new(),
            body: Value::Null,
            renewal: None,
        }
    }
}

/// When a token is replaced: by the clock that it was made with, and by the time that has passed.
///
/// A clock that was put back must not make a token last longer than the hub lets it, and a machine
/// that slept must not count from when it woke. The earlier of the two is at worst a token too many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Renewal {
    pub(super) by_clock: SystemTime,
    pub(super) by_time_passed: Instant,
}

impl Renewal {
    pub(crate) fn is_due(&self) -> bool {
        SystemTime::now() >= self.by_clock || Instant::now() >= self.by_time_passed
    }
}

impl Authorization {
    /// Puts a first token for `audience`, when there is a credential.
    pub(crate) async fn obtain(
        connection: &mut Connection,
        credential: &Credential,
        audience: String,
        asked: &Asked,
    ) -> Result<Self, HubError> {
        let links = match credential {
            Credential::Absent => None,
            _ => Some(Requests::attach(connection, "$cbs", asked).await?),
        };
        let mut authorization = Self {
            credential: credential.clone(),
            audience,
            links,
            renewal: None,
        };
        authorization.put_token(connection, asked).await?;
        Ok(authorization)
    }

    /// Replaces a token that ends soon. One attempt; does nothing when it is not yet time.
    pub(crate) async fn renew_when_due(
        &mut self,
        connection: &Connection,
        asked: &Asked,
    ) -> Result<(), HubError> {
        match self.renewal {
            Some(renewal) if renewal.is_due() => self.put_token(connection, asked).await,
            _ => Ok(()),
        }
    }

    /// A token for a question that carries its own.
    pub(crate) fn token_text(&self) -> Option<String> {
        Token::make(&self.credential, &self.audience, SystemTime::now()).map(|token| token.text)
    }

    async fn put_token(&mut self, connection: &Connection, asked: &Asked) -> Result<(), HubError> {
        let question = TokenQuestion::make(&self.credential, &self.audience);
        let (Some(question), Some(links)) = (question, &mut self.links) else {
            return Ok(());
        };
        let answer = links
            .ask(connection, question.properties, question.body, asked)
            .await?;
        answer.success(asked)?;
        self.renewal = question.renewal;
        Ok(())
    }
}

fn milliseconds(time: SystemTime) -> Option<i64> {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since_1970.as_millis()).ok()
}
