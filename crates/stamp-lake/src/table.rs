//! One Delta table: load it, put files beside it, append them with marks in one commit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use delta_kernel::snapshot::SnapshotRef;
use object_store::path::{Path, PathPart};
use object_store::{ObjectStoreExt, PutMode};
use stamp_model::{AppId, Mark};
use tokio::sync::Semaphore;
use url::Url;

use crate::error::Attempt;
use crate::file::{DataFile, EncodedFile};
use crate::flight::Flight;
use crate::lake::{Shared, TABLE_PLACES_MAX, key};
use crate::schema::TableSpec;
use crate::{LakeError, commit, load};

/// One table of a tenant or of the stamp. Cheap to clone; clones share what was last loaded.
#[derive(Clone)]
pub struct Table {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) shared: Arc<Shared>,
    /// Ends with a slash.
    pub(crate) url: Arc<Url>,
    /// The same place as a key in the store.
    pub(crate) folder: Path,
    pub(crate) spec: TableSpec,
    /// The newest version this process has seen: the next load reads only what came after it.
    latest: Mutex<Option<Snapshot>>,
    loads: Flight,
    looks: Flight,
    /// Its share of the places for blocking work.
    places: Arc<Semaphore>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({})", self.inner.url)
    }
}

/// A version of a table with all marks in it. Cheap to clone.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) table: Arc<Url>,
    pub(crate) kernel: SnapshotRef,
    pub(crate) marks: Arc<BTreeMap<String, i64>>,
}

/// A column of a table, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnInfo {
    /// Its name.
    pub name: String,
    /// Its type in Delta's words, such as `double`.
    pub kind: String,
    /// Unit of its values, when the schema names one.
    pub unit: Option<String>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} @ {})", self.table, self.version())
    }
}

impl Snapshot {
    /// The mark of `app`: every row up to this sequence number is in the table. `None` when the
    /// table has none of this app.
    #[must_use]
    pub fn mark(&self, app: &AppId) -> Option<i64> {
        self.marks.get(app.as_str()).copied()
    }

    /// All marks, by the text of their app id.
    pub fn marks(&self) -> impl Iterator<Item = (&str, i64)> {
        self.marks.iter().map(|(app, &mark)| (app.as_str(), mark))
    }

    /// Name, type and unit of each column, in order.
    #[must_use]
    pub fn columns(&self) -> Vec<ColumnInfo> {
        let schema = self.kernel.schema();
        let columns = schema.fields().map(|field| ColumnInfo {
            name: field.name.clone(),
            kind: field.data_type().to_string(),
            unit: load::unit_of(field),
        });
        columns.collect()
    }

    /// Whether the table has a column of this name.
    #[must_use]
    pub fn has_column(&self, name: &str) -> bool {
        self.kernel.schema().field(name).is_some()
    }

    /// The table's version: its number of commits less one.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.kernel.version()
    }
}

impl Table {
    pub(crate) fn new(shared: Arc<Shared>, folder: [&str; 2], spec: TableSpec) -> Self {
        let mut url = shared.root.clone();
        url.set_path(&format!("{}{}/{}/", url.path(), folder[0], folder[1]));
        let folder = key(&shared.root, &folder);
        Self {
            inner: Arc::new(Inner {
                shared,
                url: Arc::new(url),
                folder,
                spec,
                latest: Mutex::new(None),
                loads: Flight::default(),
                looks: Flight::default(),
                places: Arc::new(Semaphore::new(TABLE_PLACES_MAX)),
            }),
        }
    }

    /// Where the table is, for people and readers.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.inner.url
    }

    /// The newest version of the table, as of this call or later. Creates the table when there is none, and adds nullable
    /// columns for fields the table does not have yet; each of the two is a commit of its own.
    ///
    /// Reads the whole log once, and after that only what is new since the last load or append.
    ///
    /// Cancel safety: dropping the future leaves the work running to its end on a blocking
    /// thread; a table may still be created.
    ///
    /// # Errors
    /// [`LakeError::ColumnType`] and [`LakeError::Column`] when a field cannot be a column,
    /// [`LakeError::Broken`] when the log is damaged, [`LakeError::Conflict`] when others changed
    /// the schema twice meanwhile, [`LakeError::Unknown`] when the answer to a create or a schema
    /// change was lost (load again: both are found by reading), else what the store said.
    pub async fn load(&self) -> Result<Snapshot, LakeError> {
        let load = self.blocking(self.reading("load"), load::load);
        self.inner.loads.join(load, || self.inner.latest()).await
    }

    /// The newest version as it is; `None` when there is no table. Creates and changes nothing.
    ///
    /// Cancel safety: safe, it only reads.
    ///
    /// # Errors
    /// [`LakeError::Broken`] when the log is damaged, else what the store said.
    pub async fn newest(&self) -> Result<Option<Snapshot>, LakeError> {
        let load = self.blocking(self.reading("load"), load::newest);
        let latest = || self.inner.latest().map(Some);
        self.inner.looks.join(load, latest).await
    }

    /// Puts an encoded file below the table. It stays invisible until a commit names it.
    ///
    /// One request, create-only under a name nobody else has. Putting the same file again is
    /// harmless: when the name exists, its size is checked in a second request.
    ///
    /// Not cancel-safe: the file may be there or not; an unnamed file harms nobody.
    ///
    /// # Errors
    /// What the store said; never [`LakeError::Unknown`], as repeating is safe.
    pub async fn put(&self, file: &EncodedFile) -> Result<DataFile, LakeError> {
        let inner = &self.inner;
        let (folder, name) = (format!("date={}", file.date), file.name());
        let path = inner
            .folder
            .clone()
            .join(PathPart::from(folder.as_str()))
            .join(PathPart::from(name.as_str()));
        let attempt = || Attempt::repeatable("put", &path);
        let store = &inner.shared.store;
        let put = store.put_opts(&path, file.bytes.clone().into(), PutMode::Create.into());
        match put.await {
            Ok(_) => {}
            // The name is random: only an earlier attempt of ours can have made it.
            Err(object_store::Error::AlreadyExists { .. }) => {
                let found = store.head(&path).await;
                let found = found.map_err(|error| attempt().store_failed(error))?;
                if found.size != file.bytes.len() as u64 {
                    return Err(attempt().conflict());
                }
            }
            Err(error) => return Err(attempt().store_failed(error)),
        }
        Ok(DataFile::new(file, &folder, &name, now_ms()))
    }

    /// Makes `files` and the new `marks` visible together, in one commit after `at`, or does
    /// nothing. One attempt at one log entry.
    ///
    /// Every hundredth commit also writes a log checkpoint, so that loading stays cheap; that one
    /// is best effort, and a failure is logged and changes no result.
    ///
    /// Not cancel-safe: dropping the future leaves the commit running to its end on a blocking
    /// thread. Treat it as [`LakeError::Unknown`].
    ///
    /// # Errors
    /// - [`LakeError::MarkNotForward`] when a mark would stay or go back. Nothing was done.
    /// - [`LakeError::Conflict`] when somebody committed after `at`: load, drop the rows the new
    ///   marks already cover, encode the rest and append again. Nothing was done.
    /// - [`LakeError::Unknown`] when it may have been done: load and look at the marks.
    /// - Anything else: nothing was done.
    pub async fn append(
        &self,
        at: &Snapshot,
        files: Vec<DataFile>,
        marks: &[Mark],
    ) -> Result<Snapshot, LakeError> {
        let (at, marks) = (at.clone(), marks.to_vec());
        let attempt = Attempt::once("append to", &self.inner.url);
        self.blocking(attempt, move |inner| {
            commit::append(inner, &at, &files, &marks)
        })
        .await
    }

    /// Runs table library code where blocking is allowed.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        attempt: Attempt,
        work: impl FnOnce(&Inner) -> Result<T, LakeError> + Send + 'static,
    ) -> Result<T, LakeError> {
        let inner = Arc::clone(&self.inner);
        let places = &self.inner.places;
        let done = self.inner.shared.blocking(places, move || work(&inner));
        match done.await {
            Ok(result) => result,
            Err(error) => Err(attempt.unknown(error)),
        }
    }

    pub(crate) fn reading(&self, operation: &'static str) -> Attempt {
        Attempt::repeatable(operation, &self.inner.url)
    }
}

impl Inner {
    pub(crate) fn reading(&self, operation: &'static str) -> Attempt {
        Attempt::repeatable(operation, &self.url)
    }

    pub(crate) fn latest(&self) -> Option<Snapshot> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.clone()
    }

    /// Keeps `snapshot` unless a newer one is already known.
    pub(crate) fn saw(&self, snapshot: &Snapshot) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest
            .as_ref()
            .is_none_or(|seen| seen.version() <= snapshot.version())
        {
            *latest = Some(snapshot.clone());
        }
    }
}

/// Now, for the modification time in the log. Nothing is decided by it.
fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_millis()).ok())
        .unwrap_or_default()
}
