//! Partition ownership among the replicas of one stamp, in the Azure SDKs' own blob layout.
//!
//! `{namespace}/{hub}/{consumer group}/ownership/{partition}`, names in lower case, an empty body
//! and the metadata `ownerid`; an empty owner means that the last one released it. Processors of
//! the Azure SDKs and replicas of a stamp can share one consumer group through these blobs.
//!
//! An owner is only changed by compare-and-set, so local files are refused: they have none, and
//! one process needs no ownership. Ownership shares load and is no lock: nothing here decides
//! whether a claim is right, and no row depends on it.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::path::{Path, PathPart};
use object_store::{
    Attribute, AttributeValue, Attributes, GetOptions, ObjectMeta, ObjectStore, PutMode,
    PutOptions, PutPayload, UpdateVersion,
};
use stamp_model::PartitionId;

use crate::LakeError;
use crate::error::Attempt;

const OWNER: &str = "ownerid";

/// Longest owner that is written, in bytes. The service allows 8 KiB for all metadata.
const OWNER_BYTES_MAX: usize = 256;
/// Most blobs below `ownership/` that are looked at. Event Hubs has at most 1,024 partitions.
const BLOBS_MAX: usize = 4_096;
/// Blobs whose owner is read at the same time.
const READS_AT_ONCE: usize = 8;

/// Who owns a partition, as one version of its blob says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// Which partition.
    pub partition: PartitionId,
    /// The owner; empty when it was released, or when the blob names none.
    pub owner_id: String,
    /// The blob's entity tag, which changes with every write.
    pub version: String,
    /// When it was written by the store's own clock, milliseconds since 1970 UTC. `None` right
    /// after a claim: the store tells it when it is listed.
    pub last_modified_ms: Option<i64>,
}

/// What became of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The partition is the claimant's, in this version.
    Won(Ownership),
    /// Somebody else wrote the blob first; list again to see who.
    Lost,
}

/// The ownership blobs of one consumer group. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ownerships {
    store: Arc<dyn ObjectStore>,
    folder: Path,
}

impl Ownerships {
    /// `folder` ends in `ownership`.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, folder: Path) -> Self {
        Self { store, folder }
    }

    /// Who owns which partition. A partition that was never owned is missing; a blob whose name is
    /// no partition is passed over. One list, and one request for each blob, as lists do not have
    /// the owner.
    ///
    /// Cancel safety: safe, it only reads.
    ///
    /// # Errors
    /// What the store said.
    pub async fn list(&self) -> Result<Vec<Ownership>, LakeError> {
        let listed: Vec<ObjectMeta> = self
            .store
            .list(Some(&self.folder))
            .take(BLOBS_MAX)
            .try_collect()
            .await
            .map_err(|error| {
                Attempt::repeatable("list ownership", &self.folder).store_failed(error)
            })?;
        let reads = listed.into_iter().filter_map(|blob| {
            let partition = self.partition_of(&blob.location)?;
            Some(self.read(partition, blob.location))
        });
        let mut found: Vec<Ownership> = stream::iter(reads)
            .buffer_unordered(READS_AT_ONCE)
            .try_filter_map(|found| std::future::ready(Ok(found)))
            .try_collect()
            .await?;
        found.sort_by_key(|ownership| ownership.partition);
        Ok(found)
    }

    /// Makes `owner_id` the owner of `partition`, if its blob is still as `over` was read, or still
    /// absent when that is `None`. Claiming over one's own ownership renews it. One conditional
    /// write.
    ///
    /// Not cancel-safe: it may be written or not; list again to see.
    ///
    /// # Errors
    /// [`LakeError::Unknown`] when the answer was lost: list again, never repeat it.
    /// [`LakeError::Refused`] when the owner is longer than 256 bytes or not printable ASCII. Else
    /// what the store said.
    pub async fn claim(
        &self,
        partition: PartitionId,
        owner_id: &str,
        over: Option<&Ownership>,
    ) -> Result<Claim, LakeError> {
        self.write("claim partition", partition, owner_id, over)
            .await
    }

    /// Gives a partition back, if `held` is still its last version: the blob stays, with an empty
    /// owner. Whether it was still held is the answer. One conditional write.
    ///
    /// Not cancel-safe, as [`Self::claim`].
    ///
    /// # Errors
    /// As [`Self::claim`].
    pub async fn release(&self, held: &Ownership) -> Result<bool, LakeError> {
        let claim = self
            .write("release partition", held.partition, "", Some(held))
            .await?;
        Ok(matches!(claim, Claim::Won(_)))
    }

    async fn write(
        &self,
        operation: &'static str,
        partition: PartitionId,
        owner_id: &str,
        over: Option<&Ownership>,
    ) -> Result<Claim, LakeError> {
        let number = partition.to_string();
        let path = self.folder.clone().join(PathPart::from(number.as_str()));
        let attempt = Attempt::once(operation, &path);
        check_owner(owner_id, &attempt)?;
        let mode = match over {
            None => PutMode::Create,
            Some(over) => PutMode::Update(UpdateVersion {
                e_tag: Some(over.version.clone()),
                version: None,
            }),
        };
        let owner = AttributeValue::from(owner_id.to_owned());
        let options = PutOptions {
            mode,
            attributes: Attributes::from_iter([(Attribute::Metadata(OWNER.into()), owner)]),
            ..PutOptions::default()
        };
        match self.store.put_opts(&path, PutPayload::new(), options).await {
            Ok(put) => {
                let version = put.e_tag.ok_or_else(|| no_version(&path))?;
                Ok(Claim::Won(Ownership {
                    partition,
                    owner_id: owner_id.to_owned(),
                    version,
                    last_modified_ms: None,
                }))
            }
            // A blob that was deleted meanwhile is as lost as one that was written.
            Err(object_store::Error::NotFound { .. }) if over.is_some() => Ok(Claim::Lost),
            Err(error) => match attempt.store_failed(error) {
                LakeError::Conflict { .. } => Ok(Claim::Lost),
                other => Err(other),
            },
        }
    }

    async fn read(
        &self,
        partition: PartitionId,
        path: Path,
    ) -> Result<Option<Ownership>, LakeError> {
        let options = GetOptions {
            head: true,
            ..GetOptions::default()
        };
        let answer = match self.store.get_opts(&path, options).await {
            Ok(answer) => answer,
            // Deleted between the list and now.
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => {
                return Err(Attempt::repeatable("read ownership", &path).store_failed(error));
            }
        };
        let owner = answer
            .attributes
            .iter()
            .find_map(|(attribute, value)| match attribute {
                Attribute::Metadata(name) if name.eq_ignore_ascii_case(OWNER) => {
                    Some(value.as_ref().to_owned())
                }
                _ => None,
            });
        Ok(Some(Ownership {
            partition,
            owner_id: owner.unwrap_or_default(),
            version: answer.meta.e_tag.ok_or_else(|| no_version(&path))?,
            last_modified_ms: Some(answer.meta.last_modified.timestamp_millis()),
        }))
    }

    /// The partition whose blob is at `path`, if it is one's: directly in the folder, and named as
    /// numbers are written.
    fn partition_of(&self, path: &Path) -> Option<PartitionId> {
        let mut parts = path.prefix_match(&self.folder)?;
        let (name, None) = (parts.next()?, parts.next()) else {
            return None;
        };
        PartitionId::parse(name.as_ref()).ok()
    }
}

fn no_version(path: &Path) -> LakeError {
    LakeError::Refused {
        operation: "compare and set",
        path: path.to_string(),
        source: "the store gives its objects no entity tag".into(),
    }
}

fn check_owner(owner_id: &str, attempt: &Attempt) -> Result<(), LakeError> {
    let printable = owner_id.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if printable && owner_id.len() <= OWNER_BYTES_MAX {
        return Ok(());
    }
    Err(LakeError::Refused {
        operation: attempt.operation,
        path: attempt.path.clone(),
        source: format!(
            "owner {owner_id:?} is not at most {OWNER_BYTES_MAX} bytes of printable ASCII"
        )
        .into(),
    })
}

#[cfg(test)]
mod tests;
