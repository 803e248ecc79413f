//! Checkpoints: a hint where to start reading, in the Azure SDKs' own blob layout.
//!
//! `{namespace}/{hub}/{consumer group}/checkpoint/{partition}`, names in lower case, an empty
//! body and the metadata `sequencenumber` and `offset`. Another SDK can take over from them, and
//! KEDA's `blobMetadata` strategy reads the lag from them. A third key, `hubcreatedatms`, tells a
//! hub that was deleted and made again from its predecessor; others may leave it out.
//!
//! Local files have no metadata: there the body is a small JSON object with the same keys,
//! and the compare-and-set is none, so **one process only** may write checkpoints to local files.

use std::sync::Arc;

use object_store::path::{Path, PathPart};
use object_store::{
    Attribute, AttributeValue, Attributes, GetOptions, GetResult, ObjectStore, ObjectStoreExt,
    PutMode, PutOptions, PutPayload, UpdateVersion,
};
use stamp_model::{PartitionId, START};

use crate::LakeError;
use crate::error::Attempt;

const SEQUENCE: &str = "sequencenumber";
const OFFSET: &str = "offset";
const HUB_CREATED: &str = "hubcreatedatms";

/// Longest body of a checkpoint that is looked at.
const BODY_BYTES_MAX: u64 = 4_096;

/// Everything up to and including this event is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Sequence number of the event, from 0.
    pub sequence: i64,
    /// The broker's offset of the same event; empty when it is not known.
    pub offset: String,
    /// When the hub of this position was created, milliseconds since 1970 UTC; `None` in
    /// checkpoints that another SDK wrote.
    pub hub_created_at_ms: Option<i64>,
}

impl Checkpoint {
    /// Whether both are surely of different hubs that had the same name.
    #[must_use]
    pub fn is_of_another_hub(&self, other: &Self) -> bool {
        matches!((self.hub_created_at_ms, other.hub_created_at_ms), (Some(a), Some(b)) if a != b)
    }
}

/// What [`Checkpoints::advance`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advanced {
    /// The checkpoint was written.
    Moved,
    /// The checkpoint was already there or further.
    Already {
        /// Where it is.
        sequence: i64,
    },
}

/// Where a store keeps the position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// In the blob's metadata, with compare-and-set.
    Metadata,
    /// In the body, one process only.
    Body,
}

/// The checkpoints of one consumer group. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    store: Arc<dyn ObjectStore>,
    group: Path,
    keep: Keep,
}

struct Found {
    checkpoint: Checkpoint,
    version: UpdateVersion,
}

impl Checkpoints {
    pub(crate) fn new(store: Arc<dyn ObjectStore>, group: Path, keep: Keep) -> Self {
        Self { store, group, keep }
    }

    /// The checkpoint of `partition`, or `None` when there is none. One request.
    ///
    /// Cancel safety: safe, it only reads.
    ///
    /// # Errors
    /// [`LakeError::CorruptCheckpoint`] when it holds no position: start from the lowest mark of
    /// the tables and put it aside with [`Self::set_aside`]. Else what the store said.
    pub async fn read(&self, partition: PartitionId) -> Result<Option<Checkpoint>, LakeError> {
        let found = self.find(partition).await?;
        Ok(found.map(|found| found.checkpoint))
    }

    /// Moves the checkpoint of `partition` forward to `to`; never back. One read, and one
    /// conditional write when there is something to do. A checkpoint of an earlier hub of the same
    /// name is replaced, wherever it is.
    ///
    /// Not cancel-safe: it may be written or not; both are legal, as a checkpoint is a hint.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] when somebody wrote it meanwhile: advance again, which reads
    /// again. [`LakeError::Unknown`] when the answer was lost: likewise.
    /// [`LakeError::CorruptCheckpoint`] as for [`Self::read`]; nothing is overwritten.
    /// [`LakeError::Refused`] when the offset cannot be in a header.
    pub async fn advance(
        &self,
        partition: PartitionId,
        to: &Checkpoint,
    ) -> Result<Advanced, LakeError> {
        let found = self.find(partition).await?;
        let mode = match found {
            Some(found)
                if found.checkpoint.sequence >= to.sequence
                    && !found.checkpoint.is_of_another_hub(to) =>
            {
                return Ok(Advanced::Already {
                    sequence: found.checkpoint.sequence,
                });
            }
            Some(found) => PutMode::Update(found.version),
            None => PutMode::Create,
        };
        let path = self.path(partition);
        let attempt = Attempt::once("write checkpoint", &path);
        let (payload, options) = self.form(to, mode, &attempt)?;
        match self.store.put_opts(&path, payload, options).await {
            Ok(_) => Ok(Advanced::Moved),
            Err(error) => Err(attempt.store_failed(error)),
        }
    }

    /// Moves a corrupt checkpoint to `corrupt/{partition}` beside `checkpoint/` for a person to
    /// look at, so that a good one can be written. Returns where it went.
    ///
    /// # Errors
    /// What the store said.
    pub async fn set_aside(&self, partition: PartitionId) -> Result<String, LakeError> {
        let (from, to) = (self.path(partition), self.place("corrupt", partition));
        let attempt = || Attempt::repeatable("set aside checkpoint", &from);
        self.store
            .copy(&from, &to)
            .await
            .map_err(|error| attempt().store_failed(error))?;
        self.store
            .delete(&from)
            .await
            .map_err(|error| attempt().store_failed(error))?;
        Ok(to.to_string())
    }

    fn path(&self, partition: PartitionId) -> Path {
        self.place("checkpoint", partition)
    }

    fn place(&self, folder: &str, partition: PartitionId) -> Path {
        let number = partition.to_string();
        self.group
            .clone()
            .join(PathPart::from(folder))
            .join(PathPart::from(number.as_str()))
    }

    async fn find(&self, partition: PartitionId) -> Result<Option<Found>, LakeError> {
        let path = self.path(partition);
        let attempt = || Attempt::repeatable("read checkpoint", &path);
        let options = GetOptions {
            head: self.keep == Keep::Metadata,
            ..GetOptions::default()
        };
        let answer = match self.store.get_opts(&path, options).await {
            Ok(answer) => answer,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(attempt().store_failed(error)),
        };
        let version = UpdateVersion {
            e_tag: answer.meta.e_tag.clone(),
            version: answer.meta.version.clone(),
        };
        let checkpoint = match self.keep {
            Keep::Metadata => from_metadata(&answer.attributes),
            Keep::Body => {
                let body = body(answer).await;
                from_body(&body.map_err(|error| attempt().store_failed(error))?)
            }
        };
        match checkpoint {
            Ok(checkpoint) => Ok(Some(Found {
                checkpoint,
                version,
            })),
            Err(value) => Err(LakeError::CorruptCheckpoint {
                blob: path.to_string(),
                value: value.chars().take(200).collect(),
            }),
        }
    }

    fn form(
        &self,
        to: &Checkpoint,
        mode: PutMode,
        attempt: &Attempt,
    ) -> Result<(PutPayload, PutOptions), LakeError> {
        if !to.offset.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err(LakeError::Refused {
                operation: attempt.operation,
                path: attempt.path.clone(),
                source: format!("offset {:?} is not printable ASCII", to.offset).into(),
            });
        }
        Ok(match self.keep {
            Keep::Metadata => {
                let created = to.hub_created_at_ms.map(|ms| (HUB_CREATED, ms.to_string()));
                let attributes = [
                    (SEQUENCE, to.sequence.to_string()),
                    (OFFSET, to.offset.clone()),
                ]
                .into_iter()
                .chain(created)
                .map(|(key, value)| (Attribute::Metadata(key.into()), AttributeValue::from(value)));
                let options = PutOptions {
                    mode,
                    attributes: Attributes::from_iter(attributes),
                    ..PutOptions::default()
                };
                (PutPayload::new(), options)
            }
            Keep::Body => {
                let body = serde_json::json!({
                    SEQUENCE: to.sequence,
                    OFFSET: to.offset,
                    HUB_CREATED: to.hub_created_at_ms,
                });
                // A local file is replaced as a whole, but not compared with what was read.
                let mode = match mode {
                    PutMode::Create => PutMode::Create,
                    PutMode::Update(_) | PutMode::Overwrite => PutMode::Overwrite,
                };
                (body.to_string().into(), mode.into())
            }
        })
    }
}

async fn body(answer: GetResult) -> object_store::Result<bytes::Bytes> {
    if answer.meta.size > BODY_BYTES_MAX {
        return Ok(bytes::Bytes::from_static(b"more than 4096 bytes"));
    }
    answer.bytes().await
}

fn from_metadata(attributes: &Attributes) -> Result<Checkpoint, String> {
    let get = |key: &str| {
        attributes
            .iter()
            .find_map(|(attribute, value)| match attribute {
                Attribute::Metadata(name) if name.eq_ignore_ascii_case(key) => {
                    Some(value.as_ref().to_owned())
                }
                _ => None,
            })
    };
    let number = |text: String| text.parse::<i64>().map_err(|_| text);
    let sequence = get(SEQUENCE).ok_or_else(|| format!("no {SEQUENCE}"))?;
    checked(
        number(sequence)?,
        get(OFFSET).unwrap_or_default(),
        // One that cannot be read must not pass for one that nobody wrote: the position would be
        // believed of whatever hub has the name now.
        get(HUB_CREATED).map(number).transpose()?,
    )
}

fn from_body(body: &[u8]) -> Result<Checkpoint, String> {
    let corrupt = || String::from_utf8_lossy(body).into_owned();
    let value: serde_json::Value = serde_json::from_slice(body).map_err(|_| corrupt())?;
    let sequence = value.get(SEQUENCE).and_then(serde_json::Value::as_i64);
    let offset = value.get(OFFSET).and_then(serde_json::Value::as_str);
    let created = match value.get(HUB_CREATED) {
        None | Some(serde_json::Value::Null) => None,
        Some(created) => Some(created.as_i64().ok_or_else(corrupt)?),
    };
    match (sequence, offset) {
        (Some(sequence), Some(offset)) => checked(sequence, offset.to_owned(), created),
        _ => Err(corrupt()),
    }
}

fn checked(
    sequence: i64,
    offset: String,
    hub_created_at_ms: Option<i64>,
) -> Result<Checkpoint, String> {
    if sequence >= START {
        Ok(Checkpoint {
            sequence,
            offset,
            hub_created_at_ms,
        })
    } else {
        Err(sequence.to_string())
    }
}

#[cfg(test)]
mod tests;
