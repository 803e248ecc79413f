//! The lake of one stamp: where each table and checkpoint has its place.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::SystemTime;

use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use stamp_model::{Shape, TenantId};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};
use url::Url;

use crate::block_on::CallingThread;
use crate::checkpoint::{Checkpoints, Keep};
use crate::error::Attempt;
use crate::ownership::Ownerships;
use crate::schema::TableSpec;
use crate::{LakeError, StoreConfig, Table, store};

/// The folder of the stamp's own tables. A tenant id has no underscore, so no tenant can be
/// named like it.
const STAMP_FOLDER: &str = "_stamp";

/// The folder of shadow generations, likewise no tenant id.
const SHADOW_FOLDER: &str = "_shadow";

/// Places for the table library's work, in the whole process.
///
/// Each holds one of the runtime's threads for blocking work until its requests are answered; and a
/// request to local files needs a thread of the same kind. Tokio has 512 of them: were all taken by
/// work that waits, none of it would ever end. Half of them are left for requests.
static PLACES: Semaphore = Semaphore::const_new(PLACES_MAX);
const PLACES_MAX: usize = 256;

/// Places that one table can have: a tenant whose store hangs holds few, whatever is tried again
/// meanwhile, and the others have the rest.
pub(crate) const TABLE_PLACES_MAX: usize = 4;

pub(crate) type Engine = DefaultEngine<CallingThread>;

/// The root of everything one stamp writes. Cheap to clone.
///
/// ```text
/// {root}/{tenant}/readings   {root}/{tenant}/rollups   {root}/{tenant}/rejected
/// {root}/{tenant}/replays
/// {root}/_stamp/quarantine   {root}/_stamp/gaps        {root}/_stamp/probe
/// {root}/{namespace}/{hub}/{consumer group}/checkpoint/{partition}
/// {root}/{namespace}/{hub}/{consumer group}/ownership/{partition}
/// {root}/_shadow/{name}/     a lake of its own, laid out as this one
/// ```
#[derive(Clone)]
pub struct Lake {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) engine: Arc<Engine>,
    /// For rows with bodies: one file at a time, and few rows of it.
    pub(crate) body_engine: Arc<Engine>,
    pub(crate) runtime: Handle,
    pub(crate) root: Url,
    /// When there is one, blocking work runs step by step as it says.
    #[cfg(feature = "faults")]
    schedule: Option<Arc<dyn crate::faults::Schedule>>,
    /// What is wrong on purpose.
    #[cfg(feature = "faults")]
    pub(crate) lie: Option<crate::faults::Lie>,
}

impl Shared {
    fn new(store: Arc<dyn ObjectStore>, mut root: Url, runtime: Handle) -> Self {
        if !root.path().ends_with('/') {
            root.set_path(&format!("{}/", root.path()));
        }
        let executor = Arc::new(CallingThread::new(runtime.clone()));
        let engine = |files, rows| {
            DefaultEngineBuilder::new(Arc::clone(&store))
                .with_task_executor(Arc::clone(&executor))
                .with_buffer_size(files)
                .with_batch_size(rows)
                .build()
        };
        Self {
            engine: Arc::new(engine(READ_AHEAD_FILES, READ_BATCH_ROWS)),
            body_engine: Arc::new(engine(NonZeroUsize::MIN, BODY_BATCH_ROWS)),
            store,
            runtime,
            root,
            #[cfg(feature = "faults")]
            schedule: None,
            #[cfg(feature = "faults")]
            lie: None,
        }
    }

    /// Whether a commit that would not move a mark forward is refused: always, but in tests.
    pub(crate) fn guards_marks(&self) -> bool {
        #[cfg(feature = "faults")]
        if self.lie == Some(crate::faults::Lie::MarksMayGoBack) {
            return false;
        }
        true
    }

    /// Whether rows that are looked for are found: always, but in tests.
    pub(crate) fn finds_rows(&self) -> bool {
        #[cfg(feature = "faults")]
        if self.lie == Some(crate::faults::Lie::NoRowsFound) {
            return false;
        }
        true
    }

    /// Runs the table library's code where blocking is allowed. Not for what may be asked for many
    /// times at once: that is [`Self::blocking`].
    pub(crate) fn spawn_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        #[cfg(feature = "faults")]
        if let Some(schedule) = &self.schedule {
            return crate::faults::steps::spawn(&self.runtime, Arc::clone(schedule), work);
        }
        self.runtime.spawn_blocking(work)
    }

    /// As [`Self::spawn_blocking`], once there is a place, one of a table's. Dropping the future
    /// before that does nothing, and after it stops nothing.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        of_table: &Arc<Semaphore>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        // A simulation has few threads, and other simulations beside it must not be felt.
        #[cfg(feature = "faults")]
        if self.schedule.is_some() {
            return self.spawn_blocking(work).await;
        }
        // Its own first: who waits for that must not take a place from the others. No semaphore is
        // ever closed.
        let its_place = Arc::clone(of_table).acquire_owned().await.ok();
        let place = PLACES.acquire().await.ok();
        let work = move || {
            let _places = (its_place, place);
            work()
        };
        self.spawn_blocking(work).await
    }
}

impl fmt::Debug for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lake({})", self.shared.root)
    }
}

impl Lake {
    /// Opens the store of `config`. Reads secrets, makes no request. The table library's
    /// blocking work and timers run on `runtime`.
    ///
    /// The store client makes one request per operation: its own retries are off.
    ///
    /// # Errors
    /// [`LakeError::Config`] with the key that is wrong or the secret that is missing.
    pub fn open(config: &StoreConfig, runtime: Handle) -> Result<Self, LakeError> {
        let opened = store::open(config)?;
        Ok(Self::new(opened.store, opened.root, runtime))
    }

    /// A lake on a given store, for tests and simulations. The path of `root` is the key prefix
    /// in `store`: `memory:///` for a store in memory, `file:///folder/` for an unprefixed local
    /// file system, `az://container/prefix/` for a blob container.
    ///
    /// # Panics
    /// Outside a Tokio runtime: the one that calls is used for blocking work.
    #[must_use]
    pub fn from_store(store: Arc<dyn ObjectStore>, root: Url) -> Self {
        Self::new(store, root, Handle::current())
    }

    fn new(store: Arc<dyn ObjectStore>, root: Url, runtime: Handle) -> Self {
        Self {
            shared: Arc::new(Shared::new(store, root, runtime)),
        }
    }

    /// A lake whose blocking work runs step by step.
    #[cfg(feature = "faults")]
    pub(crate) fn new_stepped(
        store: Arc<dyn ObjectStore>,
        root: Url,
        schedule: Arc<dyn crate::faults::Schedule>,
        lie: Option<crate::faults::Lie>,
    ) -> Self {
        let mut shared = Shared::new(store, root, Handle::current());
        shared.schedule = Some(schedule);
        shared.lie = lie;
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A lake with one thing wrong.
    #[cfg(feature = "faults")]
    pub(crate) fn new_lying(
        store: Arc<dyn ObjectStore>,
        root: Url,
        lie: crate::faults::Lie,
    ) -> Self {
        let mut shared = Shared::new(store, root, Handle::current());
        shared.lie = Some(lie);
        Self {
            shared: Arc::new(shared),
        }
    }

    /// The root, without any secret.
    #[must_use]
    pub fn root(&self) -> &Url {
        &self.shared.root
    }

    /// Whether the store is reachable, may be written to, and refuses to create an object that
    /// exists (the one primitive every commit stands on). Two requests on `_stamp/probe`.
    ///
    /// # Errors
    /// [`LakeError::Missing`] when the container is not there, [`LakeError::Denied`] when the
    /// credential may not write, [`LakeError::Refused`] when the store overwrites what it should
    /// only create, [`LakeError::Transient`] or [`LakeError::Throttled`] when it cannot be told.
    pub async fn probe(&self) -> Result<(), LakeError> {
        let path = key(&self.shared.root, &[STAMP_FOLDER, "probe"]);
        let attempt = || Attempt::repeatable("write to", format!("{}_stamp/probe", self.root()));
        let content = || bytes::Bytes::from_static(b"stampworks writes this when it starts\n");
        let store = &self.shared.store;
        store
            .put(&path, content().into())
            .await
            .map_err(|error| attempt().store_failed(error))?;
        match store
            .put_opts(&path, content().into(), PutMode::Create.into())
            .await
        {
            Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
            Err(error) => Err(attempt().store_failed(error)),
            Ok(_) => Err(LakeError::Refused {
                operation: "create only when absent",
                path: path.to_string(),
                source: "the store overwrote an object it was told only to create".into(),
            }),
        }
    }

    /// When the last [`Self::probe`] wrote its object, by the store's own clock, to the second in
    /// Azure. One request.
    ///
    /// Cancel safety: safe, it only reads.
    ///
    /// # Errors
    /// [`LakeError::Missing`] before the first probe, else what the store said.
    pub async fn probed_at(&self) -> Result<SystemTime, LakeError> {
        let path = key(&self.shared.root, &[STAMP_FOLDER, "probe"]);
        let found = self.shared.store.head(&path).await;
        let found =
            found.map_err(|error| Attempt::repeatable("read", &path).store_failed(error))?;
        Ok(found.last_modified.into())
    }

    /// The tables of `tenant`. What it returns can write nowhere else
    /// ([`Invariant::TenantRoot`](stamp_model::Invariant::TenantRoot)).
    #[must_use]
    pub fn tenant(&self, tenant: &TenantId) -> TenantRoot {
        TenantRoot {
            lake: self.clone(),
            tenant: tenant.clone(),
        }
    }

    /// The stamp's own tables.
    #[must_use]
    pub fn stamp(&self) -> StampRoot {
        StampRoot { lake: self.clone() }
    }

    /// A lake of its own below this one, for a second generation of the same tables. `name` is one
    /// path segment as a tenant id is.
    #[must_use]
    pub fn shadow(&self, name: &TenantId) -> Self {
        let mut root = self.shared.root.clone();
        root.set_path(&format!("{}{SHADOW_FOLDER}/{name}/", root.path()));
        let shared = &self.shared;
        let shadow = Shared::new(Arc::clone(&shared.store), root, shared.runtime.clone());
        Self {
            shared: Arc::new(shadow),
        }
    }

    /// The checkpoints of one consumer group of one hub, in the layout of the Azure SDKs: names
    /// in lower case below the root.
    #[must_use]
    pub fn checkpoints(&self, namespace: &str, hub: &str, consumer_group: &str) -> Checkpoints {
        // Local files keep no metadata, so the position is in the body there.
        let keep = if self.shared.root.scheme() == "file" {
            Keep::Body
        } else {
            Keep::Metadata
        };
        Checkpoints::new(
            Arc::clone(&self.shared.store),
            self.group(namespace, hub, consumer_group),
            keep,
        )
    }

    /// Who owns the partitions of one consumer group of one hub, in the layout of the Azure SDKs:
    /// names in lower case below the root.
    ///
    /// # Errors
    /// [`LakeError::Config`] on local files: they have no compare-and-set, so only one process
    /// may read a hub into them. A store in memory belongs to one process anyway.
    pub fn ownerships(
        &self,
        namespace: &str,
        hub: &str,
        consumer_group: &str,
    ) -> Result<Ownerships, LakeError> {
        if self.shared.root.scheme() == "file" {
            return Err(LakeError::Config {
                key: "url",
                reason: "a local folder has no compare-and-set, so replicas cannot share \
                         partitions through it: one process only, without ownership"
                    .into(),
            });
        }
        let group = self.group(namespace, hub, consumer_group);
        Ok(Ownerships::new(
            Arc::clone(&self.shared.store),
            group.join("ownership"),
        ))
    }

    fn group(&self, namespace: &str, hub: &str, consumer_group: &str) -> Path {
        let parts = [namespace, hub, consumer_group].map(str::to_lowercase);
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        key(&self.shared.root, &parts)
    }

    fn table(&self, folder: [&str; 2], spec: TableSpec) -> Table {
        Table::new(Arc::clone(&self.shared), folder, spec)
    }
}

/// Log entries and files fetched at once when a table is loaded. The library's own default of
/// 1,000 would open as many connections.
const READ_AHEAD_FILES: NonZeroUsize = NonZeroUsize::new(32).unwrap();
/// Rows in a batch that is read.
const READ_BATCH_ROWS: NonZeroUsize = NonZeroUsize::new(8_192).unwrap();
/// The same of tables with bodies, which may have 256 KiB each.
const BODY_BATCH_ROWS: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// The key in the store of what lies below `root`. Each part becomes one segment, whatever
/// characters it has.
pub(crate) fn key(root: &Url, parts: &[&str]) -> Path {
    let base = Path::from_url_path(root.path()).unwrap_or_default();
    parts.iter().fold(base, |path, part| {
        path.join(object_store::path::PathPart::from(*part))
    })
}

/// Writes below `{root}/{tenant}/` and nowhere else.
#[derive(Debug, Clone)]
pub struct TenantRoot {
    lake: Lake,
    tenant: TenantId,
}

impl TenantRoot {
    /// The tenant's readings. The table has one column per field of `shape`.
    #[must_use]
    pub fn readings(&self, shape: &Shape) -> Table {
        self.table("readings", TableSpec::readings(shape))
    }

    /// The tenant's partial rollups.
    #[must_use]
    pub fn rollups(&self) -> Table {
        self.table("rollups", TableSpec::rollups())
    }

    /// The tenant's events that are not valid.
    #[must_use]
    pub fn rejected(&self) -> Table {
        self.table("rejected", TableSpec::rejected())
    }

    /// The tenant's events that a replay has decided to bring in.
    #[must_use]
    pub fn replays(&self) -> Table {
        self.table("replays", TableSpec::replays())
    }

    fn table(&self, name: &str, spec: TableSpec) -> Table {
        self.lake.table([self.tenant.as_str(), name], spec)
    }
}

/// Writes below `{root}/_stamp/` and nowhere else.
#[derive(Debug, Clone)]
pub struct StampRoot {
    lake: Lake,
}

impl StampRoot {
    /// Events that belong to no known tenant, or to one that cannot take them.
    #[must_use]
    pub fn quarantine(&self) -> Table {
        self.lake
            .table([STAMP_FOLDER, "quarantine"], TableSpec::quarantine())
    }

    /// Sequence numbers the hub no longer had.
    #[must_use]
    pub fn gaps(&self) -> Table {
        self.lake.table([STAMP_FOLDER, "gaps"], TableSpec::gaps())
    }
}
