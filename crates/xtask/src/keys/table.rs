//! One key as a row: its type with range and unit, its default, what it means.

use std::fmt;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::described;

/// A key.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) key: String,
    pub(super) is_required: bool,
    kind: String,
    pub(super) default: String,
    meaning: String,
}

impl Row {
    /// `inner` is what the property refers to, or itself.
    pub(super) fn of(
        key: &str,
        property: &Value,
        inner: &Value,
        is_required: bool,
        default: Option<&Value>,
    ) -> Result<Self> {
        let mut meaning = described(property).context("a key without a text")?;
        for (word, text) in words(inner) {
            if let Some(text) = text {
                let text = text.replace('\n', " ");
                meaning.push_str(&format!(" `{word}`: {}", lower_first(&text)));
            }
        }
        Ok(Self {
            key: key.to_owned(),
            is_required,
            kind: kind(property, inner)?,
            default: match (is_required, default) {
                (true, _) => "**must be given**".to_owned(),
                (false, Some(value)) if property["x-size"].is_array() => {
                    format!("`{}`", size(value))
                }
                (false, Some(value)) => format!("`{}`", toml(value)?),
                (false, None) => "*not set*".to_owned(),
            },
            meaning: cell(&meaning),
        })
    }

    /// What two rows of one type have in common.
    pub(super) fn without_default(&self) -> String {
        format!(
            "{} {} {} {}\n",
            self.key, self.is_required, self.kind, self.meaning
        )
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            kind,
            default,
            meaning,
            ..
        } = self;
        write!(f, "| `{key}` | {kind} | {default} | {meaning} |")
    }
}

/// In a table a bar ends a cell.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}

/// The words that an enum takes, each with what it means.
fn words(schema: &Value) -> Vec<(&str, Option<&str>)> {
    let plain = schema["enum"].as_array().into_iter().flatten();
    let told = schema["oneOf"].as_array().into_iter().flatten();
    let told = told.flat_map(|one| {
        let text = one["description"].as_str();
        let consts = one["const"].as_str().into_iter();
        let enums = one["enum"].as_array().into_iter().flatten();
        consts
            .chain(enums.filter_map(Value::as_str))
            .map(move |word| (word, text))
    });
    plain
        .filter_map(Value::as_str)
        .map(|word| (word, None))
        .chain(told)
        .collect()
}

fn kind(property: &Value, schema: &Value) -> Result<String> {
    for (key, name) in [("x-duration", "duration"), ("x-size", "size")] {
        if let Some(range) = property[key].as_array() {
            let ends: Vec<&str> = range.iter().filter_map(Value::as_str).collect();
            return Ok(match ends.as_slice() {
                [low, high] => format!("{name}, {low} to {high}"),
                _ => name.to_owned(),
            });
        }
    }
    let all = words(schema);
    if !all.is_empty() {
        let all: Vec<String> = all
            .iter()
            .map(|(word, _)| format!("`\"{word}\"`"))
            .collect();
        return Ok(all.join(", "));
    }
    if *schema == Value::Bool(true) {
        return Ok("anything".to_owned());
    }
    Ok(match schema["type"].as_str() {
        Some("boolean") => "`true`, `false`".to_owned(),
        Some("integer") => format!("whole number{}", range(schema)),
        Some("number") => format!("number{}", range(schema)),
        Some("string") => match (schema["minLength"].as_u64(), schema["maxLength"].as_u64()) {
            (Some(low), Some(high)) => format!("text of {low} to {high} characters"),
            _ => "text".to_owned(),
        },
        Some("array") => format!("list: {}", kind(&schema["items"], &schema["items"])?),
        Some("object") => {
            let values = &schema["additionalProperties"];
            format!("by name: {}", kind(values, values)?)
        }
        _ if schema.as_object().is_some_and(|keys| {
            keys.keys()
                .all(|key| key == "description" || key == "default")
        }) =>
        {
            "anything".to_owned()
        }
        other => bail!("a type that no cell can say: {other:?}"),
    })
}

/// With a space or comma before it; nothing for what the type itself bounds.
fn range(schema: &Value) -> String {
    let number = |key: &str| schema.get(key).filter(|bound| bound.is_number());
    let low = number("minimum").map(grouped);
    let high = number("maximum").map(grouped);
    match (low, number("exclusiveMinimum").map(grouped), high) {
        (_, Some(above), Some(high)) => format!(", above {above} and up to {high}"),
        (Some(low), _, Some(high)) => format!(", {low} to {high}"),
        (Some(low), _, None) => format!(", {low} or more"),
        (None, Some(above), None) => format!(", above {above}"),
        (None, None, Some(high)) => format!(", up to {high}"),
        (None, None, None) => String::new(),
    }
}

/// `10000` as `10,000`; `0.0` as `0`.
fn grouped(number: &Value) -> String {
    let text = number.to_string();
    let text = text.strip_suffix(".0").unwrap_or(&text);
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    if digits.len() < 4 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.to_owned();
    }
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}")
}

/// A size in the largest unit of which it is a whole number: programs print some of them in bytes.
fn size(value: &Value) -> String {
    let text = value.as_str().unwrap_or_default();
    let bytes: Option<u64> = text.strip_suffix('B').and_then(|count| count.parse().ok());
    let Some(mut count) = bytes.filter(|bytes| *bytes > 0) else {
        return value.to_string();
    };
    let mut units = ["B", "KiB", "MiB", "GiB"].into_iter();
    let mut unit = units.next();
    while let (true, Some(next)) = (count.is_multiple_of(1 << 10), units.next()) {
        count >>= 10;
        unit = Some(next);
    }
    format!("\"{count}{}\"", unit.unwrap_or_default())
}

/// A default as one would write it.
fn toml(value: &Value) -> Result<String> {
    Ok(match value {
        Value::String(_) | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) if items.is_empty() => "[]".to_owned(),
        Value::Object(keys) if keys.is_empty() => "{}".to_owned(),
        other => bail!("a default that no cell can say: {other}"),
    })
}
