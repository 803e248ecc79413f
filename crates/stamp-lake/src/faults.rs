//! Faults on purpose, for tests and simulations: refused, throttled and hanging requests, lost
//! replies, torn connections, lists that are behind, and doors that lie.
//!
//! Only built with the feature `faults`. A wrapped lake asks a plan before each request, or a
//! schedule that may also take its time; both are the test's own, so the same seed gives the same
//! faults.

pub(crate) mod steps;

use std::fmt;
use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::Lake;
use crate::http::Answer;

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
    /// The connection breaks: the caller sees that and no answer, whether it was made or not.
    Tear {
        /// Whether it was made.
        done: bool,
    },
    /// It is answered with status 503 and a `Retry-After`, and has done nothing.
    Throttle(Duration),
    /// A list is answered without its newest entry. Other requests are made as usual.
    StaleList,
    /// It is never answered, and has done nothing. Work that waits for it keeps its thread.
    Hang,
}

/// What a lake does wrong on purpose, to show that a test would notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// A commit may leave a mark where it is or move it back.
    MarksMayGoBack,
    /// [`Table::sequences`](crate::Table::sequences) finds no rows.
    NoRowsFound,
}

/// When a [`Schedule`] is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The request is about to be made.
    Before,
    /// It was made, and the caller does not know yet.
    After {
        /// Whether it succeeded.
        done: bool,
    },
}

/// A decision that may take its time: while it is not there, the request hangs.
pub type Decision = Pin<Box<dyn Future<Output = Fault> + Send>>;

/// Decides when each request of a lake is made, when its reply arrives, and what becomes of both.
pub trait Schedule: Send + Sync + 'static {
    /// Asked twice a request: before it, and once it was made. After it, any fault but
    /// [`Fault::None`] loses the reply.
    fn decide(&self, request: &Request<'_>, moment: Moment) -> Decision;
}

struct Plan<F>(F);

impl<F: Fn(&Request<'_>) -> Fault + Send + Sync + 'static> Schedule for Plan<F> {
    fn decide(&self, request: &Request<'_>, moment: Moment) -> Decision {
        let fault = match moment {
            Moment::Before => (self.0)(request),
            Moment::After { .. } => Fault::None,
        };
        Box::pin(std::future::ready(fault))
    }
}

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
            schedule: Arc::new(Plan(plan)),
        };
        Self::from_store(Arc::new(store), self.root().clone())
    }

    /// The same lake, with one thing wrong. A lake made of it by [`Self::with_schedule`] lies too.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn with_lie(&self, lie: Lie) -> Self {
        Self::new_lying(Arc::clone(&self.shared.store), self.root().clone(), lie)
    }

    /// The same lake through a store whose requests are made when `schedule` says so.
    ///
    /// The table library's blocking work takes turns with the runtime: it runs only while the
    /// runtime's thread waits for it, and each of its requests is decided on the runtime. So on a
    /// single-threaded runtime with a paused clock the order of everything is the schedule's.
    /// Not for [`Table::scan`](crate::Table::scan), which needs both at once.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn with_schedule(&self, schedule: Arc<dyn Schedule>) -> Self {
        let store = FaultyStore {
            inner: Arc::clone(&self.shared.store),
            schedule: Arc::clone(&schedule),
        };
        let lie = self.shared.lie;
        Self::new_stepped(Arc::new(store), self.root().clone(), schedule, lie)
    }
}

#[derive(Clone)]
struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    schedule: Arc<dyn Schedule>,
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
    /// Asks the schedule: from a stepped job through its link, else right here.
    async fn decide(&self, request: &Request<'_>, moment: Moment) -> Fault {
        match steps::ask(request, moment) {
            Some(fault) => fault,
            None => self.schedule.decide(request, moment).await,
        }
    }

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
        let before = self.decide(&asked, Moment::Before).await;
        match before {
            Fault::None | Fault::LoseReply | Fault::StaleList | Fault::Tear { done: true } => {}
            Fault::Tear { done: false } => return Err(torn()),
            Fault::Refuse => return Err(fault("refused on purpose")),
            Fault::Throttle(retry_after) => return Err(busy(retry_after)),
            Fault::Hang => return pending().await,
        }
        let answer = request.await;
        let done = answer.is_ok();
        let after = self.decide(&asked, Moment::After { done }).await;
        if matches!(before, Fault::Tear { .. }) {
            answer?;
            return Err(torn());
        }
        if before == Fault::LoseReply || after != Fault::None {
            answer?;
            return Err(fault("reply lost on purpose"));
        }
        answer
    }

    fn run_list<T: Send + 'static>(
        &self,
        kind: RequestKind,
        path: Option<&Path>,
        answers: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let (store, path) = (self.clone(), path.cloned().unwrap_or_default());
        let listed = async move {
            let asked = Request {
                kind,
                path: path.as_ref(),
            };
            match store.decide(&asked, Moment::Before).await {
                Fault::None => answers,
                Fault::StaleList => without_newest(answers).await,
                Fault::Refuse | Fault::LoseReply => failed_list(fault("refused on purpose")),
                Fault::Tear { .. } => failed_list(torn()),
                Fault::Throttle(retry_after) => failed_list(busy(retry_after)),
                Fault::Hang => pending().await,
            }
        };
        stream::once(listed).flatten().boxed()
    }
}

/// A list as it was before its last entry came. The only entry stays.
async fn without_newest<T: Send + 'static>(
    answers: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    let mut entries: Vec<Result<T>> = answers.collect().await;
    if entries.len() > 1 {
        entries.pop();
    }
    stream::iter(entries).boxed()
}

fn failed_list<T: Send + 'static>(error: Error) -> BoxStream<'static, Result<T>> {
    stream::once(std::future::ready(Err(error))).boxed()
}

fn busy(retry_after: Duration) -> Error {
    Error::Generic {
        store: "faulty",
        source: Box::new(Answer::busy(retry_after)),
    }
}

fn torn() -> Error {
    Error::Generic {
        store: "faulty",
        source: std::io::Error::from(std::io::ErrorKind::ConnectionReset).into(),
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
