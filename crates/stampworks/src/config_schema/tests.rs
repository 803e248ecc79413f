//! The schemas say what the readers do.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use toml::Table;

use super::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl ConfigFile {
    fn name(self) -> String {
        self.to_possible_value().unwrap().get_name().to_owned()
    }

    /// A whole and good file.
    fn example(self) -> Table {
        let text = match self {
            Self::Stamp => {
                let page = read("docs/configuration.md");
                let (_, after) = page.split_once("```toml\n").unwrap();
                after.split_once("```").unwrap().0.to_owned()
            }
            _ => read(&format!("deploy/examples/{}.toml", self.name())),
        };
        let mut table: Table = toml::from_str(&text).unwrap();
        // Sections that need a key and that the examples leave out.
        let more: &[(&[&str], &str)] = match self {
            Self::Stamp => &[
                (
                    &["telemetry", "traces", "endpoint"],
                    "http://collector:4318/v1/traces",
                ),
                (&["tenants", "0", "store", "url"], "memory:"),
            ],
            Self::Services => &[(&["stamps", "eus-1", "store", "url"], "memory:")],
            _ => &[],
        };
        for (path, value) in more {
            let path: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
            put(&mut table, &path, (*value).into());
        }
        table
    }

    /// Reads a file as the command does, up to where it would need a disk or a network.
    fn refusal(self, table: &Table) -> Option<String> {
        let text = toml::to_string(table).unwrap();
        self.reading(&text).err()
    }

    fn reading(self, text: &str) -> Result<(), String> {
        let path = Path::new("file.toml");
        match self {
            Self::Stamp => {
                let config = stamp_consumer::ConsumerConfig::parse(text, path).map_err(told)?;
                config.check().map_err(told)?;
                config.hub.validate().map_err(told)?;
                let stores = config
                    .tenants
                    .iter()
                    .filter_map(|tenant| tenant.store.as_ref());
                for store in stores.chain([&config.store]) {
                    store.validate().map_err(told)?;
                }
                Ok(())
            }
            Self::Provision => {
                let config = stamp_provisioner::ProvisionConfig::parse(text, path).map_err(told)?;
                config.check().map_err(told)?;
                config.reservations.check().map_err(told)
            }
            Self::Mover => {
                let config: crate::device::ServeConfig = toml::from_str(text).map_err(told)?;
                config.check().map_err(told)
            }
            Self::Services => {
                let config: crate::device::Services = toml::from_str(text).map_err(told)?;
                config.check().map_err(told)
            }
            Self::Usage => toml::from_str::<crate::fleet::usage::UsageFile>(text)
                .map(drop)
                .map_err(told),
            Self::Growth => toml::from_str::<stamp_placement::growth::Growth>(text)
                .map(drop)
                .map_err(told),
            Self::Emulators => {
                let config: crate::emulate::EmulateConfig = toml::from_str(text).map_err(told)?;
                config.check().map_err(told)
            }
        }
    }
}

fn told(error: impl std::error::Error) -> String {
    stamp_consumer::chain(&error).to_string()
}

fn all() -> impl Iterator<Item = ConfigFile> {
    ConfigFile::value_variants().iter().copied()
}

/// A schema with all that it refers to.
struct Whole {
    root: Value,
}

impl Whole {
    fn of(file: ConfigFile) -> Self {
        Self {
            root: file.schema().to_value(),
        }
    }

    /// What a schema refers to, or itself.
    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let inner = schema["allOf"].get(0).unwrap_or(schema);
        match inner["$ref"].as_str() {
            Some(name) => {
                let name = name.strip_prefix("#/definitions/").unwrap();
                &self.root["definitions"][name]
            }
            None => inner,
        }
    }

    /// Every key with its schema, and the path to a place of it in `example`: arrays by their first element,
    /// maps by their first name, sections that the example leaves out by themselves.
    fn leaves(&self, example: &Table) -> Vec<(Vec<String>, Value)> {
        let mut found = Vec::new();
        let example = toml::Value::Table(example.clone());
        self.walk(&self.root, Some(&example), &mut Vec::new(), &mut found);
        found
    }

    /// Paths of the tables that take only keys that are known.
    fn tables(&self, example: &Table) -> Vec<Vec<String>> {
        let leaves = self.leaves(example).into_iter();
        let mut tables: Vec<Vec<String>> = leaves
            .filter(|(_, schema)| *schema != Value::Bool(true))
            .map(|(path, _)| path[..path.len() - 1].to_vec())
            .filter(|path| path.last().is_none_or(|name| name != "endpoints"))
            .collect();
        tables.dedup();
        tables
    }

    fn walk(
        &self,
        schema: &Value,
        example: Option<&toml::Value>,
        path: &mut Vec<String>,
        found: &mut Vec<(Vec<String>, Value)>,
    ) {
        let inner = self.resolved(schema);
        if let Some(properties) = inner["properties"].as_object() {
            for (key, property) in properties {
                path.push(key.clone());
                self.walk(property, example.and_then(|e| e.get(key)), path, found);
                path.pop();
            }
        } else if inner["additionalProperties"].is_object() {
            let first = example.and_then(|e| e.as_table()?.iter().next());
            let name = first.map_or("some".to_owned(), |(name, _)| name.clone());
            path.push(name);
            let value = first.map(|(_, value)| value);
            self.walk(&inner["additionalProperties"], value, path, found);
            path.pop();
        } else if self.resolved(&inner["items"])["properties"].is_object() {
            path.push("0".to_owned());
            let first = example.and_then(|e| e.get(0));
            self.walk(&inner["items"], first, path, found);
            path.pop();
        } else {
            found.push((path.clone(), schema.clone()));
        }
    }
}

/// Puts a value where a path says, making the tables on the way.
fn put(table: &mut Table, path: &[String], value: toml::Value) {
    let (first, rest) = path.split_first().unwrap();
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return;
    }
    let below = table.entry(first.clone()).or_insert_with(|| {
        let empty = toml::Value::Table(Table::new());
        match rest[0].as_str() {
            "0" => toml::Value::Array(vec![empty]),
            _ => empty,
        }
    });
    match below {
        toml::Value::Array(items) => {
            put(items[0].as_table_mut().unwrap(), &rest[1..], value);
        }
        below => put(below.as_table_mut().unwrap(), rest, value),
    }
}

/// Values just outside of what a schema says is the range.
fn outside(schema: &Value) -> Vec<toml::Value> {
    let mut found = Vec::new();
    if let [low, high] = schema["x-duration"].as_array().map_or(&[][..], |r| r) {
        let parse = |text: &Value| humantime::parse_duration(text.as_str().unwrap()).unwrap();
        let step = Duration::from_millis(1);
        let low = parse(low).checked_sub(step);
        found.extend(
            low.into_iter().chain([parse(high) + step]).map(|duration| {
                toml::Value::String(humantime::format_duration(duration).to_string())
            }),
        );
    }
    if let [low, high] = schema["x-size"].as_array().map_or(&[][..], |r| r) {
        let parse = |text: &Value| text.as_str().unwrap().parse::<ByteSize>().unwrap().as_u64();
        let sizes = [parse(low) - 1, parse(high) + 1];
        found.extend(sizes.map(|size| toml::Value::String(format!("{size}B"))));
    }
    let is_whole = schema["type"] == "integer";
    for (key, step) in [
        ("minimum", -1),
        ("exclusiveMinimum", 0),
        ("maximum", 1),
        ("exclusiveMaximum", 0),
    ] {
        if let Some(bound) = schema[key].as_f64() {
            if is_whole {
                let bound = schema[key].as_i64().unwrap();
                // What the type itself cannot hold is no rule of ours.
                if bound != 0 {
                    found.push((bound + step).into());
                }
            } else {
                let step = f64::from(i32::try_from(step).unwrap());
                found.push((bound + 0.001 * step).into());
            }
        }
    }
    if let Some(most) = schema["maxLength"].as_u64() {
        found.push("x".repeat(usize::try_from(most).unwrap() + 1).into());
        found.push("".into());
    }
    found
}

#[test]
fn the_schemas_in_the_documents_are_what_this_program_prints() {
    for file in all() {
        let name = file.name();
        let path = format!("docs/schemas/{name}.json");
        let printed = file.text().unwrap() + "\n";
        assert!(read(&path) == printed, "{path}: run `cargo xtask docs`");
    }
}

#[test]
fn the_examples_are_good_and_an_unknown_key_in_any_table_is_refused_by_its_name() {
    for file in all() {
        let example = file.example();
        assert_eq!(file.refusal(&example), None, "{}", file.name());
        let tables = Whole::of(file).tables(&example);
        assert!(!tables.is_empty());
        for mut path in tables {
            path.push("unkown-key".to_owned());
            let mut changed = example.clone();
            put(&mut changed, &path, 1.into());
            let told = file.refusal(&changed).unwrap_or_default();
            assert!(told.contains("unkown-key"), "{path:?} is taken: {told}");
        }
    }
}

#[test]
fn a_value_outside_of_the_range_that_the_reference_names_is_refused_by_its_key() {
    let mut tried = 0;
    for file in all() {
        let example = file.example();
        for (path, schema) in Whole::of(file).leaves(&example) {
            for value in outside(&schema) {
                let mut changed = example.clone();
                put(&mut changed, &path, value.clone());
                let told = file.refusal(&changed).unwrap_or_default();
                let key = path.last().unwrap();
                assert!(told.contains(key.as_str()), "{path:?} = {value}: {told:?}");
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "only {tried} values were tried");
}

#[test]
fn every_key_has_a_text_and_every_text_that_stands_for_a_number_has_a_unit() {
    for file in all() {
        let whole = Whole::of(file);
        for (path, schema) in whole.leaves(&file.example()) {
            let inner = whole.resolved(&schema);
            let text = schema["description"]
                .as_str()
                .or(inner["description"].as_str());
            // What a map holds has no name of its own to be explained.
            let is_named = path.len() == 1 || !matches!(path[path.len() - 2].as_str(), "endpoints");
            let is_free = schema == Value::Bool(true);
            assert!(
                text.is_some() || !is_named || is_free,
                "{}: {path:?}",
                file.name()
            );
            assert!(
                inner["properties"]["nanos"].is_null(),
                "{path:?} is no text"
            );
        }
    }
}
