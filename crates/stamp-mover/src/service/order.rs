//! What a caller orders, read from bytes. No I/O.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use stamp_model::{DeviceId, StampId};
use stamp_placement::Environment;
use stamp_placement::device_move::MovePolicy;

use super::refused::{PROBLEMS_MAX, Reason, Refused, bad};
use crate::mover::{Clock, MoverOptions, UNDER_WAY_MAX};
use crate::plan::Wanted;
use crate::report::ReportOptions;

/// Longest query of a hub, in bytes (limits of IoT Hub: 4,096 characters).
const QUERY_BYTES_MAX: usize = 16 << 10;
/// Longest of any length of time that is given.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3_600);

/// The name that a caller gives a move: a word that is safe as one path segment, as stamps' are.
pub(crate) type MoveId = StampId;

/// Where the devices go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Goal {
    /// All to this stamp.
    To(StampId),
    /// Each to the stamp that placement says in this environment.
    Place(Environment),
}

/// Which devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pick {
    /// These.
    Devices(Vec<Wanted>),
    /// Those that a query of the source hub names.
    Query(String),
}

/// An order of one move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) id: MoveId,
    pub(crate) from: StampId,
    pub(crate) goal: Goal,
    pub(crate) pick: Pick,
    pub(crate) options: OrderOptions,
    /// Say what would be done, and do nothing.
    pub(crate) dry_run: bool,
    /// Of everything but `dry_run`: the same order has the same.
    pub(crate) digest: String,
}

/// How a move is run; as the options of `stampworks device move`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OrderOptions {
    /// How long a device is kept at the source after it was seen. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub keep_source: Duration,
    /// After how long without telemetry at its target a device is late. Default 30 min.
    #[serde(with = "humantime_serde")]
    pub straggler_after: Duration,
    /// Acts at the same time, 1 to 256. Default 8.
    pub acts_max: usize,
    /// Devices that are begun and not seen yet, 1 to 100,000. Default 1,000.
    pub under_way_max: usize,
    /// With so many late devices no further one is begun, at least 1. Default 20.
    pub stragglers_max: usize,
    /// How often the target's tables are looked at, 100 ms to 1 h. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub look_every: Duration,
    /// How far before the move the source's tables are looked at for the report. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub telemetry_before: Duration,
    /// Ask both hubs about every device at the end. Default `true`.
    pub audit: bool,
}

impl Default for OrderOptions {
    fn default() -> Self {
        Self {
            keep_source: Duration::from_secs(3_600),
            straggler_after: Duration::from_secs(1_800),
            acts_max: 8,
            under_way_max: 1_000,
            stragglers_max: 20,
            look_every: Duration::from_secs(10),
            telemetry_before: Duration::from_secs(3_600),
            audit: true,
        }
    }
}

impl OrderOptions {
    fn check(&self) -> Result<(), String> {
        let counts = [
            ("acts-max", self.acts_max, 256),
            ("under-way-max", self.under_way_max, UNDER_WAY_MAX),
            ("stragglers-max", self.stragglers_max, UNDER_WAY_MAX),
        ];
        for (name, value, most) in counts {
            if !(1..=most).contains(&value) {
                return Err(format!("options.{name} is {value}; must be 1 to {most}"));
            }
        }
        let (least, none) = (Duration::from_millis(100), Duration::ZERO);
        let lengths = [
            ("keep-source", self.keep_source, none, LONGEST),
            ("straggler-after", self.straggler_after, none, LONGEST),
            ("telemetry-before", self.telemetry_before, none, LONGEST),
            (
                "look-every",
                self.look_every,
                least,
                Duration::from_secs(3_600),
            ),
        ];
        for (name, value, least, most) in lengths {
            if !(least..=most).contains(&value) {
                return Err(format!(
                    "options.{name} is {value:?}; must be {least:?} to {most:?}"
                ));
            }
        }
        Ok(())
    }

    pub(crate) fn policy(&self) -> MovePolicy {
        MovePolicy {
            keep_source_us: micros(self.keep_source),
            straggler_after_us: micros(self.straggler_after),
        }
    }

    pub(crate) fn mover(&self, clock: Clock) -> MoverOptions {
        MoverOptions {
            acts_max: self.acts_max,
            under_way_max: self.under_way_max,
            stragglers_max: self.stragglers_max,
            look_every: self.look_every,
            ..MoverOptions::new(clock)
        }
    }

    /// The report at the end.
    pub(crate) fn report(&self) -> ReportOptions {
        ReportOptions {
            audit: self.audit,
            telemetry_before_us: Some(micros(self.telemetry_before)),
        }
    }
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// An order as it is sent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Body {
    id: MoveId,
    from: StampId,
    to: Option<StampId>,
    place: Option<String>,
    devices: Option<Vec<Value>>,
    query: Option<String>,
    #[serde(default)]
    options: Map<String, Value>,
    #[serde(default)]
    dry_run: bool,
}

impl Order {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// `bad-request` with what is wrong where.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Refused> {
        let body: Body = object(body)?;
        let goal = match (body.to, body.place) {
            (Some(stamp), None) => Goal::To(stamp),
            (None, Some(word)) => {
                let known = Environment::parse(&word);
                Goal::Place(known.ok_or_else(|| bad("place is neither test nor production"))?)
            }
            _ => return Err(bad("give either to, a stamp, or place, an environment")),
        };
        let pick = match (body.devices, body.query) {
            (Some(devices), None) => Pick::Devices(wanted(&devices)?),
            (None, Some(query)) if query.is_empty() || query.len() > QUERY_BYTES_MAX => {
                return Err(bad(format!("query must have 1 to {QUERY_BYTES_MAX} bytes")));
            }
            (None, Some(query)) => Pick::Query(query),
            _ => return Err(bad("give either devices or query")),
        };
        let options = OrderOptions::deserialize(Value::from(body.options));
        let options = options.map_err(|error| bad(format!("options: {error}")))?;
        options.check().map_err(bad)?;
        let digest = digest(&body.from, &goal, &pick, &options);
        Ok(Self {
            id: body.id,
            from: body.from,
            goal,
            pick,
            options,
            dry_run: body.dry_run,
            digest,
        })
    }
}

/// A body that is an object: serde would take a list for the members in their order as well.
fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refused> {
    let members: Result<Map<String, Value>, _> = serde_json::from_slice(body);
    let read = members.and_then(|members| T::deserialize(Value::from(members)));
    read.map_err(|error| bad(format!("the body: {error}")))
}

/// Ids, or objects with a device and its registration id. Every one that is wrong is told.
fn wanted(devices: &[Value]) -> Result<Vec<Wanted>, Refused> {
    let mut wanted = Vec::with_capacity(devices.len());
    let mut problems = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        match one(device) {
            Ok(one) => wanted.push(one),
            Err(why) if problems.len() < PROBLEMS_MAX => {
                problems.push(format!("devices[{index}]: {why}"));
            }
            Err(_) => {}
        }
    }
    match problems.len() {
        0 => Ok(wanted),
        1 => Err(bad(problems.remove(0))),
        count => Err(Refused::for_each(
            Reason::BadRequest,
            format!("{count} of the devices cannot be read"),
            problems.into_iter(),
        )),
    }
}

fn one(device: &Value) -> Result<Wanted, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, rename_all = "kebab-case")]
    struct Both {
        device: String,
        registration: Option<String>,
    }
    let (id, registration) = match device {
        Value::String(id) => (id.clone(), None),
        other if !other.is_object() => return Err("is no id and no object".to_owned()),
        other => {
            let both = Both::deserialize(other).map_err(|error| error.to_string())?;
            (both.device, both.registration)
        }
    };
    let device = DeviceId::parse(id.into()).map_err(|error| error.to_string())?;
    Ok(Wanted {
        device,
        registration,
    })
}

fn digest(from: &StampId, goal: &Goal, pick: &Pick, options: &OrderOptions) -> String {
    let mut sha = Sha256::new();
    // Each part ends with a byte that ids and words do not hold.
    let mut part = |text: &str| {
        sha.update(text.as_bytes());
        sha.update([0]);
    };
    part(from.as_str());
    match goal {
        Goal::To(stamp) => part(&format!("to {stamp}")),
        Goal::Place(environment) => part(&format!("place {environment:?}")),
    }
    match pick {
        Pick::Query(query) => part(&format!("query {query}")),
        Pick::Devices(devices) => {
            for wanted in devices {
                part(wanted.device.as_str());
                part(wanted.registration.as_deref().unwrap_or_default());
            }
        }
    }
    part(&serde_json::to_string(options).unwrap_or_default());
    let digest = sha.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is asked of a move that is there: of these devices, or of all.
///
/// # Errors
/// `bad-request` with what is wrong where.
pub(crate) fn devices_asked(body: &[u8]) -> Result<Vec<String>, Refused> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[serde(default)]
        devices: Vec<String>,
    }
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let asked: Asked = object(body)?;
    Ok(asked.devices)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<Order, String> {
        Order::parse(body.to_string().as_bytes()).map_err(|refused| {
            assert_eq!(refused.reason, Reason::BadRequest);
            [&[refused.message], &refused.problems[..]]
                .concat()
                .join("; ")
        })
    }

    fn order() -> Value {
        json!({ "id": "line-7", "from": "weu-test", "to": "weu-1",
            "devices": ["press-7", { "device": "press-8", "registration": "reg-8" }] })
    }

    #[test]
    fn an_order_is_read_and_the_same_one_has_the_same_digest() {
        let read = parse(&order()).unwrap();
        assert_eq!(read.goal, Goal::To(StampId::parse("weu-1").unwrap()));
        let Pick::Devices(devices) = &read.pick else {
            panic!("{read:?}")
        };
        assert_eq!(devices[1].registration.as_deref(), Some("reg-8"));
        assert_eq!(read.options, OrderOptions::default());
        let mut same = order();
        same["dry-run"] = true.into();
        same["options"] = json!({ "keep-source": "60m" });
        let same = parse(&same).unwrap();
        assert!(same.dry_run);
        assert_eq!(same.digest, read.digest);
        for (key, value) in [
            ("from", json!("weu-2")),
            ("to", json!("weu-2")),
            ("devices", json!(["press-7"])),
            ("options", json!({ "audit": false })),
        ] {
            let mut other = order();
            other[key] = value;
            assert_ne!(parse(&other).unwrap().digest, read.digest, "{key}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_order_is_told_with_its_place() {
        for (key, value, why) in [
            ("id", json!("Line 7"), "Line 7"),
            ("id", json!("../x"), "../x"),
            ("from", Value::Null, "the body: invalid type: null"),
            ("options", json!([]), "the body: invalid type"),
            ("devices", json!([["d", "r"]]), "no id and no object"),
            ("place", json!("production"), "either to"),
            ("query", json!("SELECT"), "either devices or query"),
            ("devices", json!(["ok", 7, "a b"]), "devices[1]"),
            ("devices", json!(["ok", 7, "a b"]), "devices[2]"),
            ("devices", json!([{ "device": "d", "key": 1 }]), "key"),
            ("options", json!({ "acts-max": 0 }), "options.acts-max is 0"),
            ("options", json!({ "look-every": "1ms" }), "look-every"),
            ("options", json!({ "keep-source": "soon" }), "options: "),
            ("option", json!({}), "option"),
        ] {
            let mut order = order();
            order[key] = value;
            let error = parse(&order).unwrap_err();
            assert!(error.contains(why), "{key}: {error}");
        }
        let mut placed = order();
        placed.as_object_mut().unwrap().remove("to");
        placed["place"] = "moon".into();
        assert!(parse(&placed).unwrap_err().contains("place is neither"));
    }

    #[test]
    fn a_request_is_for_all_devices_or_for_those_it_names() {
        assert_eq!(devices_asked(b"").unwrap(), Vec::<String>::new());
        assert_eq!(devices_asked(b"{}").unwrap(), Vec::<String>::new());
        assert_eq!(devices_asked(br#"{"devices":["d"]}"#).unwrap(), ["d"]);
        assert!(devices_asked(br#"{"device":["d"]}"#).is_err());
        assert!(devices_asked(b"[]").is_err());
    }
}
