//! The status page: `/`, `/status.json` and the files beside them.
//!
//! Reading costs the data path nothing. Counters are sampled from handles of their own every
//! [`EVERY`](stamp_status::EVERY); the whole registry is gathered only when somebody asks, at most
//! once in [`KEPT_MAX`] however many ask, and on a thread for blocking work. What a page shows is
//! decided in `stamp-status`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use stamp_model::StampId;
use stamp_status::{
    CONTENT_SECURITY_POLICY, EVERY, Facts, History, ICON, Input, SCRIPT, STYLE, Samples, Service,
    Status, html, status,
};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{Health, Registry};

/// How long one look at the registry and the facts serves everybody.
const KEPT_MAX: Duration = Duration::from_secs(1);

/// Asks a service for its facts; `None` once it is gone.
type Source = Arc<dyn Fn() -> Option<Facts> + Send + Sync>;

/// What the page of one service is about. Clones are the same page.
#[derive(Clone)]
pub struct StatusPage(Arc<Inner>);

struct Inner {
    service: Service,
    name: String,
    started: Instant,
    source: RwLock<Option<Source>>,
    /// Shared with whoever makes a page, so that neither waits for the other.
    history: Mutex<Arc<History>>,
    look: Mutex<Option<Look>>,
}

/// What was seen at one moment.
#[derive(Clone)]
struct Look {
    at: Instant,
    samples: Arc<Samples>,
    facts: Option<Arc<Facts>>,
}

impl StatusPage {
    /// The page of a stamp's consumer.
    #[must_use]
    pub fn consumer(stamp: &StampId) -> Self {
        Self::new(Service::Consumer, stamp)
    }

    /// The page of the provisioner of this name.
    #[must_use]
    pub fn provisioner(name: &StampId) -> Self {
        Self::new(Service::Provisioner, name)
    }

    /// The page of a move of devices from this stamp.
    #[must_use]
    pub fn mover(source: &StampId) -> Self {
        Self::new(Service::Mover, source)
    }

    fn new(service: Service, name: &StampId) -> Self {
        Self(Arc::new(Inner {
            service,
            name: name.to_string(),
            started: Instant::now(),
            source: RwLock::default(),
            history: Mutex::default(),
            look: Mutex::default(),
        }))
    }

    /// From now on the page shows the facts of this service, too. `facts` is called when somebody looks,
    /// at most once a second, and must neither block nor hold up what it reads from; it says `None` once the
    /// service is gone.
    pub fn shows(&self, facts: impl Fn() -> Option<Facts> + Send + Sync + 'static) {
        let mut source = self
            .0
            .source
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *source = Some(Arc::new(facts));
    }

    /// Takes a sample for lines and rates.
    fn note(&self, registry: &Registry) {
        let (lines, mut recent) = (self.0.service.lines(), self.0.service.recent());
        let at = self.0.started.elapsed();
        let mut history = self.history();
        if !history.is_mark_due(at) {
            // Their series are many: not every time.
            recent = &[];
        }
        let samples = registry.samples_of(&[lines, recent].concat());
        Arc::make_mut(&mut history).note(at, &samples, lines, recent);
    }

    fn history(&self) -> MutexGuard<'_, Arc<History>> {
        let history = self.0.history.lock();
        history.unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self) -> Option<Source> {
        let source = self.0.source.read();
        source.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at everything, unless somebody just has. Who comes meanwhile waits for the same look.
    fn look(&self, registry: &Registry) -> Look {
        let mut kept = self.0.look.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = kept.as_ref().filter(|look| look.at.elapsed() < KEPT_MAX) {
            return look.clone();
        }
        let look = Look {
            at: Instant::now(),
            samples: Arc::new(registry.samples()),
            facts: self.source().and_then(|source| source()).map(Arc::new),
        };
        kept.insert(look).clone()
    }

    fn status(&self, health: &Health, registry: &Registry, tenant: Option<&str>) -> Status {
        let look = self.look(registry);
        let history = Arc::clone(&self.history());
        status(&Input {
            service: self.0.service,
            name: &self.0.name,
            program: env!("CARGO_PKG_VERSION"),
            now_us: now_us(),
            uptime: self.0.started.elapsed(),
            waiting_for: health.missing(),
            samples: &look.samples,
            history: &history,
            facts: look.facts.as_deref(),
            tenant,
        })
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    i64::try_from(since.unwrap_or_default().as_micros()).unwrap_or(i64::MAX)
}

/// Takes samples until `shutdown`.
pub(crate) async fn sample(page: StatusPage, registry: Registry, shutdown: CancellationToken) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            _ = ticks.tick() => page.note(&registry),
        }
    }
}

#[derive(Clone)]
struct Site {
    page: StatusPage,
    health: Health,
    registry: Registry,
}

pub(crate) fn router(page: StatusPage, health: Health, registry: Registry) -> Router {
    let site = Site {
        page,
        health,
        registry,
    };
    Router::new()
        .route("/", get(document))
        .route("/status.json", get(json))
        .route("/status.css", get(async || sent("text/css", STYLE)))
        .route("/status.js", get(async || sent("text/javascript", SCRIPT)))
        .route("/status.svg", get(async || sent("image/svg+xml", ICON)))
        .with_state(site)
}

async fn document(State(site): State<Site>, uri: Uri) -> Response {
    made(site, &uri, "text/html; charset=utf-8", html).await
}

async fn json(State(site): State<Site>, uri: Uri) -> Response {
    made(site, &uri, "application/json", Status::json).await
}

/// Makes an answer on a thread that may take its time.
async fn made(site: Site, uri: &Uri, kind: &'static str, text: fn(&Status) -> String) -> Response {
    let tenant = tenant(uri.query().unwrap_or_default());
    let making = tokio::task::spawn_blocking(move || {
        let status = site
            .page
            .status(&site.health, &site.registry, tenant.as_deref());
        text(&status)
    });
    match making.await {
        Ok(text) => sent(kind, text),
        // A panic of ours, which the runtime has printed, or the runtime is on its way out.
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "no page\n").into_response(),
    }
}

fn sent(kind: &'static str, body: impl IntoResponse) -> Response {
    const POLICY: HeaderName = header::CONTENT_SECURITY_POLICY;
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, body).into_response()
}

/// The first `tenant=` of a query, as a form sends it.
fn tenant(query: &str) -> Option<String> {
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("tenant="))?;
    let spaced = value.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy();
    Some(decoded.into_owned())
}
