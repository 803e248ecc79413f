use std::collections::BTreeSet;

use serde_json::json;
use toml::Table;

use super::*;
use crate::tidy;

#[test]
fn the_document_is_what_the_schemas_say() {
    let root = crate::root();
    let published = crate::read(&root.join(PATH)).unwrap();
    assert!(
        published == document(&root).unwrap(),
        "{PATH}: run `cargo xtask docs`"
    );
}

fn schema(name: &str) -> File<'_> {
    let text = crate::read(&crate::root().join(schema_path(name))).unwrap();
    File {
        name,
        schema: serde_json::from_str(&text).unwrap(),
    }
}

/// Keys of a value that the schema does not have, by their paths.
fn unknown(file: &File<'_>, schema: &Value, value: &toml::Value, path: &str) -> Vec<String> {
    let inner = file.resolved(schema);
    match value {
        toml::Value::Table(table) if inner["properties"].is_object() => {
            let below = table.iter().map(|(key, value)| {
                let path = format!("{path}.{key}");
                match inner["properties"].get(key) {
                    Some(property) => unknown(file, property, value, &path),
                    None => vec![path],
                }
            });
            below.flatten().collect()
        }
        toml::Value::Table(table) => {
            let values = &inner["additionalProperties"];
            let below = table.iter().map(|(key, value)| match values {
                // What is free in its form.
                Value::Bool(true) | Value::Null => Vec::new(),
                values => unknown(file, values, value, &format!("{path}.{key}")),
            });
            below.flatten().collect()
        }
        toml::Value::Array(items) => {
            let below = items
                .iter()
                .map(|item| unknown(file, &inner["items"], item, path));
            below.flatten().collect()
        }
        _ => Vec::new(),
    }
}

/// The schema of a file or of a block in a document, told by the keys that only it has.
fn kind_of(table: &Table) -> Option<&'static str> {
    let has = |key: &str| table.contains_key(key);
    let tables = |key: &str| table.get(key).is_some_and(toml::Value::is_array);
    Some(match () {
        () if has("event-hubs") => "emulators",
        () if has("services") && has("state") => "mover",
        () if has("reservations") => "provision",
        () if has("dps") => "services",
        () if has("growth") || has("rate") => "growth",
        () if has("stamp") || has("hub") || has("store") => "stamp",
        // A catalogue has a version and a usage file none.
        () if !has("version") && tables("stamps") => "usage",
        () if has("resilience") => "stamp",
        () => return None,
    })
}

fn toml_files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            toml_files(&path, found);
        } else if path.extension().is_some_and(|end| end == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn every_key_of_the_examples_and_of_the_blocks_in_documents_is_in_the_reference() {
    let root = crate::root();
    let mut paths = Vec::new();
    toml_files(&root.join("deploy"), &mut paths);
    let mut texts: Vec<(String, String)> = paths
        .iter()
        .map(|path| (path.display().to_string(), crate::read(path).unwrap()))
        .collect();
    for path in tidy::files(&root).unwrap() {
        if path.ends_with(".md") {
            let text = crate::read(&root.join(&path)).unwrap();
            for block in text.split("```toml\n").skip(1) {
                let block = block.split("```").next().unwrap();
                texts.push((path.clone(), block.to_owned()));
            }
        }
    }
    let mut kinds = BTreeSet::new();
    for (place, text) in texts {
        let table: Table = toml::from_str(&text).unwrap_or_else(|e| panic!("{place}: {e}"));
        let Some(kind) = kind_of(&table) else {
            continue;
        };
        kinds.insert(kind);
        let file = schema(kind);
        let found = unknown(&file, &file.schema, &toml::Value::Table(table), kind);
        // The page on resilience shows the policies of two programs in one block.
        let found: Vec<_> = found
            .into_iter()
            .filter(|key| {
                !(place.ends_with("resilience.md") && key == "stamp.resilience.reservations")
            })
            .collect();
        assert!(found.is_empty(), "{place}: no such keys: {found:?}");
    }
    let all: BTreeSet<&str> = FILES.iter().map(|(name, _)| *name).collect();
    assert_eq!(kinds, all, "files without an example");
}

fn made(schema: Value) -> Result<String> {
    let file = File {
        name: "made",
        schema,
    };
    let mut text = String::new();
    file.write("page.md", &mut Seen::new(), &mut text)?;
    Ok(text)
}

#[test]
fn the_default_of_a_table_counts_before_that_of_the_key_and_the_same_keys_are_told_once() {
    let policy = json!({"type": "object", "description": "P.", "properties": {
        "tries": {"type": "integer", "minimum": 1, "maximum": 1000, "description": "How often."},
        "pause": {"type": "string", "x-duration": ["1ms", "1m"], "description": "How long.", "default": "9s"},
    }});
    let of = |default: Value| json!({"allOf": [{"$ref": "#/definitions/Policy"}], "description": "A policy.", "default": default});
    let text = made(json!({
        "description": "A file.",
        "properties": {
            "a": of(json!({"tries": 3, "pause": "1s"})),
            "b": of(json!({"tries": 5, "pause": "1s"})),
            "c": {"allOf": [{"$ref": "#/definitions/Policy"}], "description": "Another."},
        },
        "definitions": {"Policy": policy},
    }))
    .unwrap();
    assert!(
        text.contains("| `tries` | whole number, 1 to 1,000 | `3` | How often. |"),
        "{text}"
    );
    assert!(
        text.contains("| `pause` | duration, 1ms to 1m | `\"1s\"` | How long. |"),
        "{text}"
    );
    assert!(
        text.contains("Keys as of [made.toml `[a]`](#madetoml-a), with these defaults"),
        "{text}"
    );
    assert!(text.contains("| `tries` | `5` |"), "{text}");
    assert!(text.contains("Another. Not there by default."), "{text}");
    assert!(text.contains("| `pause` | `\"9s\"` |"), "{text}");
}

#[test]
fn what_a_cell_cannot_say_is_an_error_that_names_the_key() {
    let told = |property: Value| {
        let schema = json!({"description": "A file.", "properties": {"a-key": property}});
        format!("{:#}", made(schema).unwrap_err())
    };
    assert!(told(json!({"type": "string"})).contains("a-key"));
    let link = told(json!({"type": "string", "description": "See [`Other`]."}));
    assert!(link.contains("a-key") && link.contains("rustdoc"), "{link}");
    let list = json!({"type": "array", "items": {"type": "string"}, "description": "D.", "default": ["x"]});
    assert!(told(list).contains("default"));
}

#[test]
fn words_ranges_and_lists_are_told_as_one_would_write_them() {
    let text = made(json!({"description": "A file.", "required": ["word"], "properties": {
        "word": {"description": "W.", "oneOf": [
            {"const": "one", "description": "The first."}, {"const": "two", "description": "The\nsecond."}]},
        "share": {"type": "number", "exclusiveMinimum": 0.0, "maximum": 0.5, "description": "S|T.", "default": 0.1},
        "most": {"type": ["string", "integer"], "x-size": ["1KiB", "4MiB"], "description": "M.", "default": "262144B"},
        "names": {"type": "array", "items": {"type": "string"}, "description": "N.", "default": []},
    }}))
    .unwrap();
    assert!(text.contains("| `word` | `\"one\"`, `\"two\"` | **must be given** | W. `one`: the first. `two`: the second. |"), "{text}");
    assert!(
        text.contains("| `share` | number, above 0 and up to 0.5 | `0.1` | S\\|T. |"),
        "{text}"
    );
    assert!(
        text.contains("| `names` | list: text | `[]` | N. |"),
        "{text}"
    );
    assert!(
        text.contains("| `most` | size, 1KiB to 4MiB | `\"256KiB\"` | M. |"),
        "{text}"
    );
    let first = text.find("`word`").unwrap();
    assert!(
        first < text.find("`names`").unwrap(),
        "what must be given comes first"
    );
}
