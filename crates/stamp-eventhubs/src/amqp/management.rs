//! What the hub tells about itself: `READ` on the `$management` node.

use fe2o3_amqp_types::primitives::{SimpleValue, Value as AmqpValue};
use stamp_model::{HubIdentity, PartitionId, Text};

use super::authorize::Authorization;
use super::connection::{Connection, REQUEST_CREDIT};
use super::message::{Body, Message};
use super::request::{Answer, Requests};
use super::wire::Value;
use super::{Hub, asked};
use crate::error::Asked;
use crate::{HubError, HubProperties, PartitionProperties};

/// A connection to the `$management` node, used for one question after another.
pub(crate) struct Management {
    connection: Connection,
    authorization: Authorization,
    links: Requests,
}

impl Management {
    pub(crate) async fn open(hub: &Hub) -> Result<Self, HubError> {
        let asked = asked(hub.name.clone(), None);
        let mut connection = Connection::open(&hub.connection, REQUEST_CREDIT, &asked).await?;
        let audience = hub.audience(&format!("{}/$management", hub.name));
        let authorization =
            Authorization::obtain(&mut connection, &hub.credential, audience, &asked).await?;
        let links = Requests::attach(&mut connection, "$management", &asked).await?;
        Ok(Self {
            connection,
            authorization,
            links,
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }

    pub(crate) async fn hub(&mut self, hub: &Hub) -> Result<HubProperties, HubError> {
        let asked = asked(hub.name.clone(), None);
        let answer = self
            .read(hub, "com.microsoft:eventhub", None, &asked)
            .await?;
        read_hub(hub, &answer, &asked)
    }

    pub(crate) async fn partition(
        &mut self,
        hub: &Hub,
        partition: PartitionId,
    ) -> Result<PartitionProperties, HubError> {
        let asked = asked(
            format!("{}/Partitions/{partition}", hub.name),
            Some(partition),
        );
        let answer = self
            .read(hub, "com.microsoft:partition", Some(partition), &asked)
            .await?;
        read_partition(&answer, &asked)
    }

    async fn read(
        &mut self,
        hub: &Hub,
        entity_type: &'static str,
        partition: Option<PartitionId>,
        asked: &Asked,
    ) -> Result<Answer, HubError> {
        self.authorization
            .renew_when_due(&self.connection, asked)
            .await?;
        let mut properties: Vec<(&'static str, SimpleValue)> = vec![
            ("operation", "READ".into()),
            ("name", hub.name.as_str().into()),
            ("type", entity_type.into()),
        ];
        if let Some(partition) = partition {
            properties.push(("partition", partition.to_string().into()));
        }
        if let Some(token) = self.authorization.token_text() {
            properties.push(("security_token", token.into()));
        }
        self.links
            .ask(&self.connection, properties, AmqpValue::Null, asked)
            .await
    }
}

/// Fields of an answer's map, by name.
struct Fields<'a> {
    answer: &'a Answer,
    asked: &'a Asked,
    entries: Vec<(&'a [u8], Value<'a>)>,
}

impl<'a> Fields<'a> {
    fn of(answer: &'a Answer, asked: &'a Asked) -> Result<Self, HubError> {
        let message = answer.success(asked)?;
        let Body::Value(Value::Map(map)) = message.body else {
            return Err(HubError::Protocol {
                detail: format!("the answer about {} holds no map", asked.entity),
            });
        };
        let entries = Message::entries(Some(map))
            .flatten()
            .filter_map(|(key, value)| match key {
                Value::Text(key) => Some((key, value)),
                _ => None,
            })
            .collect();
        Ok(Self {
            answer,
            asked,
            entries,
        })
    }

    fn get(&self, name: &str) -> Option<Value<'a>> {
        self.entries
            .iter()
            .find(|(key, _)| *key == name.as_bytes())
            .map(|(_, value)| *value)
    }

    fn wrong<T>(&self, name: &str) -> Result<T, HubError> {
        Err(HubError::Protocol {
            detail: format!(
                "the answer about {} has no {name}, or one of another type",
                self.asked.entity
            ),
        })
    }

    fn number(&self, name: &str) -> Result<i64, HubError> {
        match self.get(name) {
            Some(Value::Int(number)) => Ok(number),
            Some(Value::Uint(number)) => i64::try_from(number).or_else(|_| self.wrong(name)),
            _ => self.wrong(name),
        }
    }

    fn time_ms(&self, name: &str) -> Result<i64, HubError> {
        match self.get(name) {
            Some(Value::TimestampMs(ms)) => Ok(ms),
            _ => self.wrong(name),
        }
    }

    fn text(&self, name: &str) -> Result<Text, HubError> {
        match self.get(name) {
            Some(value @ (Value::Text(_) | Value::Int(_) | Value::Uint(_))) => {
                self.answer.text(value).map_or_else(|| self.wrong(name), Ok)
            }
            _ => self.wrong(name),
        }
    }

    fn flag(&self, name: &str) -> Result<bool, HubError> {
        match self.get(name) {
            Some(Value::Bool(flag)) => Ok(flag),
            _ => self.wrong(name),
        }
    }

    /// Ids come as an array; a list is taken as well.
    fn partitions(&self, name: &str) -> Result<Vec<PartitionId>, HubError> {
        let mut ids = Vec::new();
        let mut add = |value| {
            let text = self.answer.text(value).unwrap_or_default();
            ids.push(
                PartitionId::parse(&text).map_err(|error| HubError::Protocol {
                    detail: format!("the answer about {}: {error}", self.asked.entity),
                })?,
            );
            Ok(())
        };
        match self.get(name) {
            Some(Value::Array(array)) => {
                for value in array.values() {
                    add(value.or_else(|_| self.wrong(name))?)?;
                }
            }
            Some(Value::List(mut list)) => {
                while !list.is_empty() {
                    add(list.value().or_else(|_| self.wrong(name))?)?;
                }
            }
            _ => return self.wrong(name),
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}

fn read_hub(hub: &Hub, answer: &Answer, asked: &Asked) -> Result<HubProperties, HubError> {
    let fields = Fields::of(answer, asked)?;
    Ok(HubProperties {
        identity: HubIdentity {
            namespace: hub.namespace.as_str().into(),
            hub: hub.name.to_ascii_lowercase().into(),
            created_at_ms: fields.time_ms("created_at")?,
        },
        partitions: fields.partitions("partition_ids")?,
    })
}

fn read_partition(answer: &Answer, asked: &Asked) -> Result<PartitionProperties, HubError> {
    let fields = Fields::of(answer, asked)?;
    Ok(PartitionProperties {
        begin_sequence: fields.number("begin_sequence_number")?,
        last_sequence: fields.number("last_enqueued_sequence_number")?,
        last_offset: fields.text("last_enqueued_offset")?,
        last_enqueued_at_us: fields
            .time_ms("last_enqueued_time_utc")?
            .saturating_mul(1_000),
        is_empty: fields.flag("is_partition_empty")?,
    })
}
