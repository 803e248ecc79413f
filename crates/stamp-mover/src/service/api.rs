//! The interface: paths, statuses and bodies. It decides nothing about moves.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Value, json};
use stamp_http::{Access, Handler, Refusal, Reply, Request};
use stamp_model::StampId;
use stamp_telemetry::MoverMetrics;
use tokio::sync::Semaphore;

use super::entry::{Entry, Inner, State, word};
use super::estate::Estate;
use super::moves::{Begun, Moves, away};
use super::order::{MoveId, Order, OrderOptions, devices_asked};
use super::refused::{Reason, Refused, bad};
use crate::mover::Glimpse;
use crate::plan::{DEVICES_MAX, Plan, PlannedDevice, Side};
use crate::report::{DeviceReport, Report};
use crate::request::What;
use crate::step::chain;

/// The description of the interface, in JSON.
pub const OPENAPI: &str = include_str!("../../openapi.json");

/// Most devices of one answer.
const LISTED_MAX: usize = 1_000;
/// Devices of one answer when nobody says.
const LISTED: usize = 100;
/// Reports that are read from the disk at the same time: one can be large.
const READS_MAX: usize = 2;
/// Seconds until somebody who met an outage should ask again.
const RETRY_AFTER_S: &str = "5";

/// The handler of the server.
pub(crate) struct Api<E> {
    pub(crate) moves: Arc<Moves<E>>,
    pub(crate) access: Arc<Access>,
    pub(crate) metrics: MoverMetrics,
    reads: Semaphore,
}

impl<E> Api<E> {
    pub(crate) fn new(moves: Arc<Moves<E>>, access: Arc<Access>, metrics: MoverMetrics) -> Self {
        Self {
            moves,
            access,
            metrics,
            reads: Semaphore::new(READS_MAX),
        }
    }
}

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route<'a> {
    Moves,
    Move(&'a str),
    Ask(&'a str, What),
    OpenApi,
    Other,
}

impl<'a> Route<'a> {
    fn of(path: &'a str) -> Self {
        let mut parts = path.split('/');
        let parts = [(); 6].map(|()| parts.next());
        match parts {
            [Some(""), Some("openapi.json"), None, ..] => Self::OpenApi,
            [Some(""), Some("v1"), Some("moves"), None, ..] => Self::Moves,
            [Some(""), Some("v1"), Some("moves"), Some(id), None, _] => Self::Move(id),
            [
                Some(""),
                Some("v1"),
                Some("moves"),
                Some(id),
                Some(what),
                None,
            ] => match what {
                "pause" => Self::Ask(id, What::Pause),
                "resume" => Self::Ask(id, What::Continue),
                "abort" => Self::Ask(id, What::Abort),
                "roll-back" => Self::Ask(id, What::RollBack),
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// As metrics and logs call it.
    fn name(self) -> &'static str {
        match self {
            Self::Moves => "moves",
            Self::Move(_) => "move",
            Self::Ask(..) => "ask",
            Self::OpenApi => "openapi",
            Self::Other => "other",
        }
    }

    fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Moves => &["GET", "HEAD", "POST"],
            Self::Move(_) => &["GET", "HEAD", "DELETE"],
            Self::Ask(..) => &["POST"],
            Self::OpenApi | Self::Other => &["GET", "HEAD"],
        }
    }
}

/// An answer and how it is counted.
type Answered = (Reply, &'static str);

#[async_trait]
impl<E: Estate> Handler for Api<E> {
    async fn answer(&self, request: Request) -> Reply {
        let route = Route::of(&request.path);
        let (reply, outcome) = match self.dispatch(route, &request).await {
            Ok(answered) => answered,
            Err(refused) => {
                let code = refused.reason.code();
                tracing::info!(
                    route = route.name(),
                    code,
                    message = refused.message,
                    "refused"
                );
                (refusal(&refused, route), code)
            }
        };
        self.metrics.answered(route.name(), outcome);
        reply
    }

    fn refuse(&self, refusal: Refusal) -> Reply {
        let refused = match refusal {
            Refusal::BodyTooLarge => Refused::new(Reason::TooLarge, "the body is too large"),
            Refusal::BodyBroken => bad("the body broke off"),
            Refusal::TooSlow => Refused::new(
                Reason::TooSlow,
                "it took too long; asking again with the same id is safe",
            ),
        };
        self.metrics.answered("other", refused.reason.code());
        self::refusal(&refused, Route::Other)
    }
}

impl<E: Estate> Api<E> {
    async fn dispatch(&self, route: Route<'_>, request: &Request) -> Result<Answered, Refused> {
        if route == Route::Other {
            let path: String = request.path.chars().take(200).collect();
            let message = format!("there is nothing at {path}");
            return Err(Refused::new(Reason::NotFound, message));
        }
        if !route.methods().contains(&request.method.as_str()) {
            let message = format!("use {} here", route.methods().join(" or "));
            return Err(Refused::new(Reason::MethodNotAllowed, message));
        }
        if route == Route::OpenApi {
            let reply = json_reply(200, OPENAPI.to_owned());
            let reply = reply.with_header("cache-control", "public, max-age=3600");
            return Ok((reply, "served"));
        }
        if !self.access.lets_in(request) {
            return Err(Refused::new(Reason::Unauthorized, Access::HINT));
        }
        match (route, request.method.as_str()) {
            (Route::Moves, "POST") => self.begin(request).await,
            (Route::Moves, _) => Ok(self.all()),
            (Route::Move(id), "DELETE") => self.forget(id).await,
            (Route::Move(id), _) => self.one(request, id).await,
            (Route::Ask(id, what), _) => self.ask(request, id, what).await,
            (Route::OpenApi | Route::Other, _) => Err(Refused::new(Reason::NotFound, "not here")),
        }
    }

    async fn begin(&self, request: &Request) -> Result<Answered, Refused> {
        let order = Order::parse(&request.body)?;
        let id = order.id.clone();
        Ok(match self.moves.begin(order).await? {
            Begun::New(entry) => {
                let reply = fresh(201, &json!(Summary::of(&entry)));
                let place = format!("/v1/moves/{id}");
                (reply.with_header("location", place), "begun")
            }
            Begun::Known(entry) => (fresh(200, &json!(Summary::of(&entry))), "known"),
            Begun::Dry(plan) => (fresh(200, &dry(&plan, self.share())), "dry-run"),
        })
    }

    fn share(&self) -> f64 {
        self.moves.estate.policy().share_of_limits
    }

    fn all(&self) -> Answered {
        let all = self.moves.all();
        let moves: Vec<Summary> = all.iter().map(|entry| Summary::of(entry)).collect();
        (fresh(200, &json!({ "moves": moves })), "served")
    }

    async fn one(&self, request: &Request, id: &str) -> Result<Answered, Refused> {
        let entry = self.moves.of(&move_id(id)?)?;
        let query = request.query.as_deref();
        let first = number(query, "first", 0, DEVICES_MAX)?;
        let count = number(query, "count", LISTED, LISTED_MAX)?;
        let seen = Seen::of(&entry);
        let list = self.list(&entry.id, seen.glimpse, first, count).await?;
        let next = first.saturating_add(list.len());
        let detail = Detail {
            next: (!list.is_empty() && next < seen.summary.devices).then_some(next),
            summary: seen.summary,
            options: &entry.ordered.options,
            report: seen.report.map(without_list),
            list,
        };
        Ok((fresh(200, &json!(detail)), "served"))
    }

    /// Devices as they are now, or as the last report has them.
    async fn list(
        &self,
        id: &MoveId,
        glimpse: Option<Glimpse>,
        first: usize,
        count: usize,
    ) -> Result<Vec<DeviceReport>, Refused> {
        let reading = self.reads.acquire().await;
        let _reading = reading.map_err(|error| away(error.to_string()))?;
        let (folder, id) = (Arc::clone(&self.moves.folder), id.clone());
        let now_us = (self.moves.clock)();
        let read = move || match glimpse {
            Some(glimpse) => Ok(glimpse.devices(first, count, now_us)),
            None => folder.report(&id).map(|reported| {
                let list = reported.map_or_else(Vec::new, |reported| reported.report.list);
                list.into_iter().skip(first).take(count).collect()
            }),
        };
        let read = tokio::task::spawn_blocking(read).await;
        let read = read.map_err(|error| away(error.to_string()))?;
        read.map_err(|error| away(chain(&error)))
    }

    async fn ask(&self, request: &Request, id: &str, what: What) -> Result<Answered, Refused> {
        let devices = devices_asked(&request.body)?;
        let entry = self.moves.ask(&move_id(id)?, what, devices).await?;
        Ok((fresh(202, &json!(Summary::of(&entry))), "asked"))
    }

    async fn forget(&self, id: &str) -> Result<Answered, Refused> {
        self.moves.forget(&move_id(id)?).await?;
        Ok((Reply::new(204, ""), "forgotten"))
    }
}

/// A move in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Summary {
    id: MoveId,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<StampId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    began_us: Option<i64>,
    devices: usize,
    stages: BTreeMap<String, usize>,
    stragglers: usize,
    persons: usize,
    paused: usize,
}

impl Summary {
    fn of(entry: &Entry) -> Self {
        Self::as_of(&entry.id, &entry.inner())
    }

    fn as_of(id: &MoveId, inner: &Inner) -> Self {
        let progress = &inner.progress;
        let stages = progress.stages.iter();
        Self {
            id: id.clone(),
            state: inner.state,
            why: inner.why.clone(),
            from: inner.from.clone(),
            began_us: inner.began_us,
            devices: progress.devices,
            stages: stages.map(|(stage, count)| (word(stage), *count)).collect(),
            stragglers: progress.stragglers,
            persons: progress.persons,
            paused: progress.paused,
        }
    }
}

/// A move at one moment. Looked at piece by piece, a move that ends meanwhile would be told as ended
/// with a list from before its last report.
struct Seen {
    summary: Summary,
    glimpse: Option<Glimpse>,
    report: Option<Report>,
}

impl Seen {
    fn of(entry: &Entry) -> Self {
        let inner = entry.inner();
        Self {
            summary: Summary::as_of(&entry.id, &inner),
            glimpse: inner.glimpse.clone(),
            report: inner.report.clone(),
        }
    }
}

/// A move by itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Detail<'a> {
    #[serde(flatten)]
    summary: Summary,
    options: &'a OrderOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<Value>,
    list: Vec<DeviceReport>,
    /// Where the list goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<usize>,
}

fn without_list(report: Report) -> Value {
    let mut json = json!(report);
    if let Some(members) = json.as_object_mut() {
        members.remove("list");
    }
    json
}

/// What a dry run says.
fn dry(plan: &Plan, share_of_limits: f64) -> Value {
    let listed: Vec<&PlannedDevice> = plan.devices.iter().take(LISTED_MAX).collect();
    let targets: Vec<&Side> = plan.targets.values().collect();
    json!({
        "dry-run": true,
        "source": plan.source,
        "targets": targets,
        "devices": plan.devices.len(),
        "list": listed,
        "minutes-at-least": plan.minutes_at_least(share_of_limits),
    })
}

fn move_id(segment: &str) -> Result<MoveId, Refused> {
    // No character of an id is ever escaped.
    MoveId::parse(segment).map_err(|error| bad(error.to_string()))
}

/// A number of the query, 0 or 1 to `most`.
fn number(query: Option<&str>, name: &str, default: usize, most: usize) -> Result<usize, Refused> {
    let mut pairs = query.into_iter().flat_map(|query| query.split('&'));
    let given = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let Some(given) = given else {
        return Ok(default);
    };
    let number = given.parse().ok().filter(|number| *number <= most);
    number.ok_or_else(|| bad(format!("{name} must be a number of at most {most}")))
}

fn refusal(refused: &Refused, route: Route<'_>) -> Reply {
    let reason = refused.reason;
    let mut body = json!({ "code": reason.code(), "message": refused.message });
    if !refused.problems.is_empty() {
        body["problems"] = json!(refused.problems);
    }
    let reply = fresh(reason.status(), &body);
    match reason {
        Reason::Unauthorized => {
            reply.with_header("www-authenticate", "ApiKey realm=\"stampworks\"")
        }
        Reason::MethodNotAllowed => reply.with_header("allow", route.methods().join(", ")),
        _ if reason.status() == 503 => reply.with_header("retry-after", RETRY_AFTER_S),
        _ => reply,
    }
}

/// An answer that is of this moment.
fn fresh(status: u16, body: &Value) -> Reply {
    json_reply(status, body.to_string()).with_header("cache-control", "no-store")
}

fn json_reply(status: u16, body: String) -> Reply {
    Reply::new(status, body).with_header("content-type", "application/json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_thing_or_nothing() {
        for (path, route) in [
            ("/v1/moves", Route::Moves),
            ("/v1/moves/line-7", Route::Move("line-7")),
            ("/v1/moves/line-7/pause", Route::Ask("line-7", What::Pause)),
            (
                "/v1/moves/line-7/resume",
                Route::Ask("line-7", What::Continue),
            ),
            ("/v1/moves/line-7/abort", Route::Ask("line-7", What::Abort)),
            (
                "/v1/moves/line-7/roll-back",
                Route::Ask("line-7", What::RollBack),
            ),
            ("/openapi.json", Route::OpenApi),
            ("/v1/moves/", Route::Move("")),
            ("/v1/moves/line-7/erase", Route::Other),
            ("/v1/moves/line-7/pause/x", Route::Other),
            ("/V1/moves", Route::Other),
            ("*", Route::Other),
            ("", Route::Other),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
    }

    #[test]
    fn a_number_of_the_query_is_read_or_refused() {
        assert_eq!(number(None, "first", 7, 9), Ok(7));
        assert_eq!(number(Some("count=3&first=8"), "first", 7, 9), Ok(8));
        for bad in ["first=", "first=-1", "first=10", "first=x"] {
            assert!(number(Some(bad), "first", 7, 9).is_err(), "{bad}");
        }
    }

    /// The description is written by hand, so that it is a promise and not an echo.
    #[test]
    fn the_description_names_every_path_and_every_code() {
        let description: Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(description["info"]["version"], env!("CARGO_PKG_VERSION"));
        let paths: Vec<&String> = description["paths"].as_object().unwrap().keys().collect();
        let expected = [
            "/openapi.json",
            "/v1/moves",
            "/v1/moves/{id}",
            "/v1/moves/{id}/abort",
            "/v1/moves/{id}/pause",
            "/v1/moves/{id}/resume",
            "/v1/moves/{id}/roll-back",
        ];
        assert_eq!(paths, expected);
        let schemas = &description["components"]["schemas"];
        let codes = &schemas["Refusal"]["properties"]["code"]["enum"];
        assert_eq!(*codes, json!(Reason::ALL.map(Reason::code)));
        let states = &schemas["State"]["enum"];
        assert_eq!(*states, json!(super::super::STATES));
    }

    #[test]
    fn every_code_is_explained() {
        let page = include_str!("../../../../docs/moving.md");
        for reason in Reason::ALL {
            let row = format!("\n| `{}` | {} |", reason.code(), reason.status());
            assert!(page.contains(&row), "no row {row}");
        }
        for state in super::super::STATES {
            let row = format!("\n| `{state}` | ");
            assert!(page.contains(&row), "no row {row}");
        }
    }
}
