//! From the TOML of a schema to a [`Schema`], checking every rule of the language on the way.

mod field;
mod limits;

use std::collections::HashMap;

use stamp_model::{FieldDef, Shape};
use toml::Spanned;

use crate::error::{Places, SchemaError};
use crate::field::{Check, EVENT_TIME, Slot};
use crate::schema::{Child, EventTime, Node, SCHEMA_BYTES_MAX, Schema};
use crate::source::{EventTimeSource, FieldSource, SchemaSource, TimeFormat};
use crate::units::parse_duration_us;

/// The only version of the schema language so far.
const LANGUAGE_VERSION: i64 = 1;
/// Most fields of a schema. A Parquet writer holds a buffer per column, and this bounds them.
const FIELDS_MAX: usize = 512;
/// Most cells one event may produce: batch-max times fields. Bounds what a body of `{}` elements
/// can allocate.
const EVENT_CELLS_MAX: usize = 4 << 20;
/// Most keys in a path.
const PATH_KEYS_MAX: usize = 16;
/// Devices' clocks this far ahead are believed when the schema says nothing: beyond five minutes
/// of skew SAS tokens fail as well.
const AHEAD_DEFAULT_US: i64 = 5 * 60 * 1_000_000;
/// Devices hold back readings this long when the schema says nothing: the longest retention of
/// IoT Hub's built-in endpoint.
const BEHIND_DEFAULT_US: i64 = 7 * 86_400 * 1_000_000;
/// Longest clock bound: ten years.
const CLOCK_BOUND_MAX_US: i64 = 3_653 * 86_400 * 1_000_000;

pub(crate) fn compile(toml: &str) -> Result<Schema, SchemaError> {
    if toml.len() > SCHEMA_BYTES_MAX {
        return Err(SchemaError::TooLarge {
            bytes: toml.len(),
            max: SCHEMA_BYTES_MAX,
        });
    }
    let places = Places(toml);
    let source: SchemaSource = toml::from_str(toml).map_err(|error| places.toml(&error))?;
    check_version(&source.version, &places)?;
    let limits = limits::compile(&source.limits, &places)?;
    check_field_count(&source, limits.batch_max, &places)?;

    let mut tree = Tree::new(&places, limits.depth_max);
    let (fields, mut slots) = compile_fields(&source.fields, &mut tree, &places)?;
    let event_time = compile_event_time(&source.event_time, &mut tree, &mut slots, &places)?;

    Ok(Schema {
        shape: Shape { fields },
        required: (0..slots.len()).filter(|&i| slots[i].required).collect(),
        slots,
        event_time,
        unknown_fields: source.unknown_fields,
        limits,
        root: tree.root,
        #[cfg(feature = "faults")]
        panic_at: None,
    })
}

fn check_version(version: &Spanned<i64>, places: &Places<'_>) -> Result<(), SchemaError> {
    if *version.get_ref() == LANGUAGE_VERSION {
        return Ok(());
    }
    let message = format!("this program reads version {LANGUAGE_VERSION} of the schema language");
    Err(places.invalid(&version.span(), "version", message))
}

fn check_field_count(
    source: &SchemaSource,
    batch_max: usize,
    places: &Places<'_>,
) -> Result<(), SchemaError> {
    let count = source.fields.len();
    if count == 0 {
        return Err(places.invalid(&(0..0), "fields", "at least one [[fields]] is needed"));
    }
    if count > FIELDS_MAX {
        let message = format!("{count} fields; at most {FIELDS_MAX} are supported");
        return Err(places.invalid(&source.fields[FIELDS_MAX].span(), "fields", message));
    }
    if batch_max * count > EVENT_CELLS_MAX {
        let span = source.limits.batch_max.as_ref().map_or(0..0, Spanned::span);
        let message = format!(
            "{batch_max} elements of {count} fields are more than {EVENT_CELLS_MAX} values an \
             event; lower batch-max to {}",
            EVENT_CELLS_MAX / count
        );
        return Err(places.invalid(&span, "limits.batch-max", message));
    }
    Ok(())
}

fn compile_fields(
    sources: &[Spanned<FieldSource>],
    tree: &mut Tree<'_>,
    places: &Places<'_>,
) -> Result<(Vec<FieldDef>, Vec<Slot>), SchemaError> {
    let mut names: HashMap<String, usize> = HashMap::new();
    let mut fields = Vec::with_capacity(sources.len());
    let mut slots = Vec::with_capacity(sources.len() + 1);
    for (index, source) in sources.iter().enumerate() {
        let source = source.get_ref();
        let key = format!("fields[{index}]");
        let (def, slot) = field::compile(source, &key, places)?;
        // Spark and others compare column names without regard to case.
        if let Some(first) = names.insert(def.name.to_ascii_lowercase(), index) {
            let message = format!("fields[{first}] has this name already (case is ignored)");
            return Err(places.invalid(&source.name.span(), format!("{key}.name"), message));
        }
        let path = source.path.as_ref().unwrap_or(&source.name);
        tree.insert(path, index, &format!("{key}.path"))?;
        fields.push(def);
        slots.push(slot);
    }
    Ok((fields, slots))
}

fn compile_event_time(
    source: &Spanned<EventTimeSource>,
    tree: &mut Tree<'_>,
    slots: &mut Vec<Slot>,
    places: &Places<'_>,
) -> Result<EventTime, SchemaError> {
    let span = source.span();
    let source = source.get_ref();
    let refuse = |message: &str| Err(places.invalid(&span, "event-time", message));
    match (&source.path, &source.source) {
        (None, None) => refuse("give the `path` of the timestamp, or `source = \"enqueued\"`"),
        (Some(_), Some(_)) => refuse("give either `path` or `source`, not both"),
        (None, Some(_)) => {
            if source.format.is_some() || source.ahead_max.is_some() || source.behind_max.is_some()
            {
                return refuse("`format`, `ahead-max` and `behind-max` need a `path`");
            }
            Ok(EventTime::Enqueued)
        }
        (Some(path), None) => {
            tree.insert(path, slots.len(), "event-time.path")?;
            let format = source
                .format
                .as_ref()
                .map_or(TimeFormat::default(), |f| *f.get_ref());
            slots.push(Slot {
                rule: EVENT_TIME.to_owned(),
                path: path.get_ref().clone(),
                required: true,
                check: Check::Timestamp { format },
            });
            let bound = |value: &Option<Spanned<String>>, key: &str, default| {
                clock_bound(value.as_ref(), key, default, places)
            };
            Ok(EventTime::Field {
                ahead_max_us: bound(&source.ahead_max, "event-time.ahead-max", AHEAD_DEFAULT_US)?,
                behind_max_us: bound(
                    &source.behind_max,
                    "event-time.behind-max",
                    BEHIND_DEFAULT_US,
                )?,
            })
        }
    }
}

fn clock_bound(
    value: Option<&Spanned<String>>,
    key: &str,
    default_us: i64,
    places: &Places<'_>,
) -> Result<i64, SchemaError> {
    let Some(value) = value else {
        return Ok(default_us);
    };
    parse_duration_us(value.get_ref())
        .filter(|us| *us <= CLOCK_BOUND_MAX_US)
        .ok_or_else(|| {
            let message = "expected a whole number with ms, s, m, h or d, at most 3653d";
            places.invalid(&value.span(), key, message)
        })
}

/// The tree of keys, and what each path was first used for.
struct Tree<'a> {
    root: Node,
    places: &'a Places<'a>,
    depth_max: usize,
}

impl<'a> Tree<'a> {
    fn new(places: &'a Places<'a>, depth_max: usize) -> Self {
        Self {
            root: Node::default(),
            places,
            depth_max,
        }
    }

    fn insert(
        &mut self,
        path: &Spanned<String>,
        slot: usize,
        key: &str,
    ) -> Result<(), SchemaError> {
        let places = self.places;
        let refuse = |message: String| places.invalid(&path.span(), key, message);
        let keys = split_path(path.get_ref()).map_err(&refuse)?;
        let (last, objects) = keys
            .split_last()
            .expect("split_path gives at least one key");
        if keys.len() > PATH_KEYS_MAX.min(self.depth_max) {
            let max = PATH_KEYS_MAX.min(self.depth_max);
            return Err(refuse(format!(
                "at most {max} keys deep (limits.depth-max is {})",
                self.depth_max
            )));
        }
        let mut node = &mut self.root;
        for name in objects {
            let child = node
                .children
                .entry(name.as_str().into())
                .or_insert_with(|| Child::Object(Node::default()));
            match child {
                Child::Object(inner) => node = inner,
                Child::Slot(_) => {
                    return Err(refuse(format!("`{name}` on this path is a field itself")));
                }
            }
        }
        match node.children.get(last.as_str()) {
            None => {
                node.children
                    .insert(last.as_str().into(), Child::Slot(slot));
                Ok(())
            }
            Some(Child::Slot(_)) => Err(refuse(format!(
                "`{}` is read by another field already",
                path.get_ref()
            ))),
            Some(Child::Object(_)) => Err(refuse(format!(
                "other fields lie below `{}`",
                path.get_ref()
            ))),
        }
    }
}

/// Splits at dots; a backslash takes the next character as it is, for keys that hold a dot.
fn split_path(path: &str) -> Result<Vec<String>, String> {
    let mut keys = vec![String::new()];
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        let current = keys.last_mut().expect("never empty");
        match c {
            '.' => keys.push(String::new()),
            '\\' => match chars.next() {
                Some(escaped @ ('.' | '\\')) => current.push(escaped),
                _ => return Err("a backslash must be followed by `.` or `\\`".to_owned()),
            },
            other => current.push(other),
        }
    }
    if keys.iter().any(String::is_empty) {
        return Err("a path is keys joined by single dots".to_owned());
    }
    Ok(keys)
}
