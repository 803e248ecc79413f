//! Proves to the hub who we are: puts a token to the connection's `$cbs` node.

use std::time::SystemTime;

use fe2o3_amqp_types::primitives::{SimpleValue, Timestamp, Value};

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
    pub(super) renew_at: Option<SystemTime>,
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
            renew_at: None,
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
        match self.renew_at {
            Some(at) if SystemTime::now() >= at => self.put_token(connection, asked).await,
            _ => Ok(()),
        }
    }

    /// A token for a question that carries its own.
    pub(crate) fn token_text(&self) -> Option<String> {
        Token::make(&self.credential, &self.audience, SystemTime::now()).map(|token| token.text)
    }

    async fn put_token(&mut self, connection: &Connection, asked: &Asked) -> Result<(), HubError> {
        let token = Token::make(&self.credential, &self.audience, SystemTime::now());
        let (Some(token), Some(links)) = (token, &mut self.links) else {
            return Ok(());
        };
        let mut properties: Vec<(&'static str, SimpleValue)> = vec![
            ("operation", "put-token".into()),
            ("type", "servicebus.windows.net:sastoken".into()),
            ("name", self.audience.as_str().into()),
        ];
        if let Some(end) = token.expires_at.and_then(milliseconds) {
            properties.push(("expiration", Timestamp::from_milliseconds(end).into()));
        }
        let renew_at = token.renew_at();
        let answer = links
            .ask(connection, properties, Value::String(token.text), asked)
            .await?;
        answer.success(asked)?;
        self.renew_at = renew_at;
        Ok(())
    }
}

fn milliseconds(time: SystemTime) -> Option<i64> {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since_1970.as_millis()).ok()
}
