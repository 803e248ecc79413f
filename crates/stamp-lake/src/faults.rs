//! Faults on purpose, for tests and simulations: refused requests and lost replies.
//!
//! Only built with the feature `faults`. A wrapped lake asks a plan before each request; the plan
//! is the test's own, so the same seed gives the same faults.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::Lake;

/// What a request is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// Create an object that must not exist.
    Create,
    /// Write an object, whatever is there or when it is what was read.
    Write,
    /// Read an object or its metadata.
    Read,
    /// List objects.
    List,
    /// Delete an object.
    Delete,
    /// Copy an object.
    Copy,
}

/// One request, before it is made.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What it does.
    pub kind: RequestKind,
    /// On which key, or below which.
    pub path: &'a str,
}

impl Request<'_> {
    /// Whether this is the create of a log entry: the moment a commit happens or not.
    #[must_use]
    pub fn is_commit(&self) -> bool {
        let is_entry = |(_, name): (&str, &str)| {
            name.strip_suffix(".json")
                .is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit()))
        };
        self.kind == RequestKind::Create
            && self.path.split_once("/_delta_log/").is_some_and(is_entry)
    }

    /// Whether this is the put of a data file.
    #[must_use]
    pub fn is_data_file(&self) -> bool {
        self.kind == RequestKind::Create && self.path.contains("/date=")
    }
}

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is made.
    None,
    /// It fails and has done nothing.
    Refuse,
    /// It is made, and then fails towards the caller.
    LoseReply,
}

type Plan = dyn Fn(&Request<'_>) -> Fault + Send + Sync;

impl Lake {
    /// The same lake through a store that fails as `plan` says. The plan is asked once for each
    /// request, on any thread.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn with_faults(
        &self,
        plan: impl Fn(&Request<'_>) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let store = FaultyStore {
            inner: Arc::clone(&self.shared.store),
            plan: Arc::new(plan),
        };
        Self::from_store(Arc::new(store), self.root().clone())
    }
}

#[derive(Clone)]
struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    plan: Arc<Plan>,
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({:?})", self.inner)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

impl FaultyStore {
    async fn run<T>(
        &self,
        kind: RequestKind,
        path: &Path,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let asked = Request {
            kind,
            path: path.as_ref(),
        };
        match (self.plan)(&asked) {
            Fault::None => request.await,
            Fault::Refuse => Err(fault("refused on purpose")),
            Fault::LoseReply => {
                request.await?;
                Err(fault("reply lost on purpose"))
            }
        }
    }

    fn run_list<T: Send + 'static>(
        &self,
        kind: RequestKind,
        path: Option<&Path>,
        answers: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let asked = Request {
            kind,
            path: path.map_or("", Path::as_ref),
        };
        match (self.plan)(&asked) {
            Fault::None => answers,
            Fault::Refuse | Fault::LoseReply => {
                stream::once(std::future::ready(Err(fault("refused on purpose")))).boxed()
            }
        }
    }
}

fn fault(reason: &'static str) -> Error {
    Error::Generic {
        store: "faulty",
        source: reason.into(),
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let kind = match options.mode {
            PutMode::Create => RequestKind::Create,
            PutMode::Overwrite | PutMode::Update(_) => RequestKind::Write,
        };
        self.run(
            kind,
            location,
            self.inner.put_opts(location, payload, options),
        )
        .await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let request = self.inner.put_multipart_opts(location, options);
        self.run(RequestKind::Write, location, request).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let request = self.inner.get_opts(location, options);
        self.run(RequestKind::Read, location, request).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    let one = stream::once(std::future::ready(Ok(location.clone()))).boxed();
                    let mut deleted = store.inner.delete_stream(one);
                    let request = async { deleted.next().await.transpose() };
                    store.run(RequestKind::Delete, &location, request).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.run_list(RequestKind::List, prefix, self.inner.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let answers = self.inner.list_with_offset(prefix, offset);
        self.run_list(RequestKind::List, prefix, answers)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        let request = self.inner.list_with_delimiter(prefix);
        self.run(RequestKind::List, &path, request).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let request = self.inner.copy_opts(from, to, options);
        self.run(RequestKind::Copy, to, request).await
    }
}
