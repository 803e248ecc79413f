//! `docs/configuration-keys.md`: every key of every configuration file, made from the schemas in `docs/schemas`.
//!
//! The schemas are what `stampworks config-schema` prints, so that keys, types, ranges and defaults are those of
//! the program. This only turns them into tables; what it cannot say in a cell is an error, never left out.

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use table::Row;

/// Where the document is.
pub(crate) const PATH: &str = "docs/configuration-keys.md";

/// The files, in the order of the document: the name, and the page that explains the file.
pub(crate) const FILES: &[(&str, &str)] = &[
    ("stamp", "configuration.md"),
    ("provision", "provisioning.md"),
    ("mover", "moving.md#as-a-service"),
    ("services", "moving.md#how-it-is-reached"),
    ("usage", "fleet.md#usage"),
    ("growth", "fleet.md#growth"),
    ("emulators", "emulator.md#iot-hub-and-dps"),
];

/// Where the schema of a file is.
pub(crate) fn schema_path(name: &str) -> String {
    format!("docs/schemas/{name}.json")
}

/// The document as it should be.
///
/// # Errors
/// A schema that is missing, or says something that a table cannot.
pub(crate) fn document(root: &Path) -> Result<String> {
    let mut text = String::from(HEAD);
    let mut seen = Seen::new();
    for (name, page) in FILES {
        let path = schema_path(name);
        let schema: Value = serde_json::from_str(&crate::read(&root.join(&path))?)
            .with_context(|| format!("{path} is no JSON"))?;
        let file = File { name, schema };
        file.write(page, &mut seen, &mut text)
            .with_context(|| path.clone())?;
    }
    Ok(text)
}

/// Tables that were written, by all that is in their rows but the defaults: the heading, and the defaults.
type Seen = BTreeMap<String, (String, Vec<String>)>;

struct File<'n> {
    name: &'n str,
    schema: Value,
}

/// One table of a file.
struct Section<'s> {
    /// As TOML names it; empty for the file itself.
    path: Vec<String>,
    is_array: bool,
    schema: &'s Value,
    /// The default of the whole table, when it has one.
    default: Option<&'s Value>,
    about: String,
}

impl File<'_> {
    fn write(&self, page: &str, seen: &mut Seen, text: &mut String) -> Result<()> {
        let name = self.name;
        let about = described(&self.schema)?;
        let _ = write!(
            text,
            "\n## {name}.toml\n\n{about} [Explained]({page}), [schema](schemas/{name}.json).\n"
        );
        let whole = Section {
            path: Vec::new(),
            is_array: false,
            schema: &self.schema,
            default: None,
            about: String::new(),
        };
        self.section(&whole, seen, text)
    }

    /// One table and, after it, those below it.
    fn section(&self, section: &Section<'_>, seen: &mut Seen, text: &mut String) -> Result<()> {
        let properties = section.schema["properties"]
            .as_object()
            .with_context(|| format!("{:?} has no keys", section.path))?;
        let required = |key: &str| {
            let names = section.schema["required"].as_array();
            names.is_some_and(|names| names.iter().any(|name| name == key))
        };
        let mut rows = Vec::new();
        let mut below = Vec::new();
        for (key, property) in properties {
            // The default of the table counts before that of the key: it is what is in force.
            let default = match section.default.map(|table| &table[key.as_str()]) {
                Some(Value::Null) => None,
                Some(value) => Some(value),
                None => property.get("default"),
            };
            let place = || [section.path.clone(), vec![key.clone()]].concat();
            match self.table_of(property) {
                Some((schema, kind)) => below.push(Section {
                    path: match kind {
                        Kind::Map => [place(), vec!["NAME".to_owned()]].concat(),
                        Kind::Table | Kind::Array => place(),
                    },
                    is_array: matches!(kind, Kind::Array),
                    schema,
                    default: default.filter(|_| matches!(kind, Kind::Table)),
                    about: self.about_section(property, required(key), default.is_some())?,
                }),
                None => rows.push(
                    Row::of(
                        key,
                        property,
                        self.resolved(property),
                        required(key),
                        default,
                    )
                    .with_context(|| place().join("."))?,
                ),
            }
        }
        rows.sort_by_key(|row| (!row.is_required, row.key.clone()));
        self.table(section, &rows, seen, text);
        for section in below {
            self.section(&section, seen, text)?;
        }
        Ok(())
    }

    fn table(&self, section: &Section<'_>, rows: &[Row], seen: &mut Seen, text: &mut String) {
        let heading = self.heading(section);
        if !section.path.is_empty() {
            let _ = write!(text, "\n### {heading}\n\n{}\n", section.about);
        }
        if rows.is_empty() {
            return;
        }
        let same: String = rows.iter().map(Row::without_default).collect();
        let defaults: Vec<String> = rows.iter().map(|row| row.default.clone()).collect();
        match seen.get(&same) {
            Some((first, before)) if rows.len() > 1 => {
                let link = format!("[{first}](#{})", anchor(first));
                if *before == defaults {
                    let _ = writeln!(text, "\nKeys and defaults as of {link}.");
                    return;
                }
                let _ = write!(
                    text,
                    "\nKeys as of {link}, with these defaults:\n\n| key | default |\n|---|---|\n"
                );
                for row in rows {
                    let _ = writeln!(text, "| `{}` | {} |", row.key, row.default);
                }
            }
            _ => {
                text.push_str("\n| key | type | default | meaning |\n|---|---|---|---|\n");
                for row in rows {
                    let _ = writeln!(text, "{row}");
                }
                seen.insert(same, (heading, defaults));
            }
        }
    }

    /// Unique in the document, so that it can be linked.
    fn heading(&self, section: &Section<'_>) -> String {
        let path = section.path.join(".");
        match (section.path.is_empty(), section.is_array) {
            (true, _) => format!("{}.toml", self.name),
            (false, false) => format!("{}.toml `[{path}]`", self.name),
            (false, true) => format!("{}.toml `[[{path}]]`", self.name),
        }
    }

    fn about_section(
        &self,
        property: &Value,
        is_required: bool,
        has_default: bool,
    ) -> Result<String> {
        let text = match described(property) {
            Ok(text) => text,
            Err(_) => described(self.resolved(property))?,
        };
        Ok(match (is_required, has_default) {
            (true, _) => format!("{text} **Must be given.**"),
            (false, true) => text,
            (false, false) => format!("{text} Not there by default."),
        })
    }

    /// The schema of a table, when the key is one, is a list of them, or holds them by name.
    fn table_of<'s>(&'s self, property: &'s Value) -> Option<(&'s Value, Kind)> {
        let inner = self.resolved(property);
        let kinds = [
            (inner, Kind::Table),
            (self.resolved(&inner["items"]), Kind::Array),
            (self.resolved(&inner["additionalProperties"]), Kind::Map),
        ];
        let mut tables = kinds.into_iter();
        tables.find(|(schema, _)| schema["properties"].is_object())
    }

    /// What a schema refers to, or itself.
    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let inner = schema["allOf"].get(0).unwrap_or(schema);
        let name = inner["$ref"].as_str();
        match name.and_then(|name| name.strip_prefix("#/definitions/")) {
            Some(name) => &self.schema["definitions"][name],
            None => inner,
        }
    }
}

enum Kind {
    Table,
    Array,
    Map,
}

/// The first paragraph of a schema's text.
fn described(schema: &Value) -> Result<String> {
    let text = schema["description"].as_str().unwrap_or_default();
    let text = text.split("\n\n").next().unwrap_or_default();
    if text.is_empty() {
        bail!("no text says what it is");
    }
    if text.contains("[`") {
        bail!("{text:?} has a link of rustdoc, which leads nowhere in a document");
    }
    Ok(text.to_owned())
}

/// As code hosts make the anchor of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

const HEAD: &str = r#"# Keys of the configuration files

Made by `cargo xtask docs` from the types that read the files. An unknown key is refused with its line and its name. A
duration is a text with units, such as `"200ms"`, `"30s"` or `"1m 30s"`; a size is one such as `"256MiB"`, or a number of
bytes. The default is what is in force when the key is left out; *not set* says that there is none. In the name of a table
`NAME` stands for one that you choose. The catalogue of a fleet, which is read by hand so that every problem of it is
told at once, is described in [fleet.md](fleet.md); the schema of a tenant's events in [schema.md](schema.md).

**In an editor.** [docs/schemas](schemas) has the same as JSON Schemas, and `stampworks config-schema stamp` prints the one of
the program at hand. Editors with [Taplo](https://taplo.tamasfe.dev) (*Even Better TOML* in VS Code) check and complete a file
whose first line names its schema:

```toml
#:schema ./stamp.json
```
"#;
