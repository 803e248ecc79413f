//! `stampworks config-schema`: the JSON Schema of each file that this program reads as its configuration.
//!
//! The schemas are made from the types that read the files, so that keys, defaults and texts are those of this
//! very program. `docs/schemas` keeps them for editors, and `docs/configuration-keys.md` is made from them. What
//! only a whole file can break, such as two keys that contradict each other, is in no schema. Nothing is opened.

#[cfg(all(test, feature = "emulator"))]
mod tests;

use clap::{Args, ValueEnum};
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::output;

/// A number and a unit, perhaps several: what `humantime` reads.
const DURATION: &str = r"^\s*([0-9]+\s*[a-zµ]+\s*)+$";
/// A number and perhaps a unit: what `bytesize` reads.
const SIZE: &str = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpP]?[iI]?[bB]?)\s*$";

/// Arguments of `stampworks config-schema`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  stampworks config-schema stamp > stamp.json\n\n\
    An editor that knows Taplo's directive checks a file whose first line is `#:schema ./stamp.json`."
)]
pub(crate) struct ConfigSchemaArgs {
    /// Which file, by the name that the documents give it.
    file: ConfigFile,
}

/// A file that this program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ConfigFile {
    /// `consume --config stamp.toml`
    Stamp,
    /// `provision --config provision.toml`
    Provision,
    /// `device serve --config mover.toml`
    Mover,
    /// `device --services services.toml`
    Services,
    /// `fleet --usage usage.toml`
    Usage,
    /// `fleet plan --growth growth.toml`
    Growth,
    /// `emulate --config emulators.toml`
    #[cfg(feature = "emulator")]
    Emulators,
}

pub(crate) fn run(args: ConfigSchemaArgs) -> Result<(), Failure> {
    output::line(&args.file.text()?);
    Ok(())
}

impl ConfigFile {
    fn text(self) -> Result<String, Failure> {
        serde_json::to_string_pretty(&self.schema())
            .map_err(|cause| Failure::failed("cannot print the schema", cause))
    }

    fn schema(self) -> Schema {
        let (name, mut schema) = match self {
            Self::Stamp => ("stamp", of::<stamp_consumer::ConsumerConfig>()),
            Self::Provision => ("provision", of::<stamp_provisioner::ProvisionConfig>()),
            Self::Mover => ("mover", of::<crate::device::ServeConfig>()),
            Self::Services => ("services", of::<crate::device::Services>()),
            Self::Usage => ("usage", of::<crate::fleet::usage::UsageFile>()),
            Self::Growth => ("growth", of::<stamp_placement::growth::Growth>()),
            #[cfg(feature = "emulator")]
            Self::Emulators => ("emulators", of::<crate::emulate::EmulateConfig>()),
        };
        schema.insert("title".to_owned(), format!("{name}.toml").into());
        schema
    }
}

/// In draft 7, which is what TOML editors know.
fn of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft07().with_transform(AsToml);
    settings.into_generator().into_root_schema_for::<T>()
}

/// What is different in TOML: it has no null, and durations and sizes are texts with units.
///
/// The ranges of those, `x-duration` and `x-size`, stay in the schema: no validator reads them, the reference and
/// the tests do.
#[derive(Clone)]
struct AsToml;

impl Transform for AsToml {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        without_null(schema);
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = unwrapped(text);
        }
        if schema.get("x-duration").is_some() {
            schema.insert("pattern".to_owned(), DURATION.into());
        }
        if schema.get("x-size").is_some() {
            schema.insert("type".to_owned(), json!(["string", "integer"]));
            schema.insert("pattern".to_owned(), SIZE.into());
        }
        // How many bits hold a number: nobody who writes a file needs it.
        if schema.get("format").is_some_and(is_of_a_number) {
            schema.remove("format");
        }
    }
}

fn is_of_a_number(format: &Value) -> bool {
    let format = format.as_str().unwrap_or_default();
    ["int", "uint", "float", "double"]
        .iter()
        .any(|prefix| format.starts_with(prefix))
}

fn without_null(schema: &mut Schema) {
    let is_null = |value: &Value| value == "null" || *value == json!({"type": "null"});
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|one| !is_null(one));
        if let [one] = types.as_slice() {
            let one = one.clone();
            schema.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(mut all)) = schema.remove("anyOf") {
        all.retain(|one| !is_null(one));
        let key = if all.len() == 1 { "allOf" } else { "anyOf" };
        schema.insert(key.to_owned(), all.into());
    }
    if let Some(default) = schema.remove("default").and_then(given) {
        schema.insert("default".to_owned(), default);
    }
}

/// What is there of a default; `None` of one that says that nothing is.
fn given(default: Value) -> Option<Value> {
    match default {
        Value::Null => None,
        Value::Object(keys) => {
            let keys = keys.into_iter();
            let keys = keys.filter_map(|(key, value)| Some((key, given(value)?)));
            Some(Value::Object(keys.collect()))
        }
        other => Some(other),
    }
}

/// Lines of a paragraph as one; paragraphs and lists stay apart.
fn unwrapped(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| {
        let is_code = paragraph.contains("```");
        let lines = paragraph.lines().map(str::trim);
        lines
            .collect::<Vec<_>>()
            .join(if is_code { "\n" } else { " " })
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
