//! One table of a catalogue, read key by key.
//!
//! A key that is missing, of the wrong type or out of range becomes a finding and `None`; reading
//! goes on with the next key. What was never asked for is an unknown key.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytesize::ByteSize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::{Findings, Place};

/// What was read of one `[[...]]`, with the places of its keys.
pub(super) struct Draft<T> {
    pub(super) item: T,
    name: String,
    section: Place,
    places: BTreeMap<String, Place>,
}

impl<T> Draft<T> {
    /// Where a key's value is; the section when the key is not there.
    pub(super) fn place(&self, key: &str) -> &Place {
        self.places.get(key).unwrap_or(&self.section)
    }

    pub(super) fn section(&self) -> &Place {
        &self.section
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// The full key for messages.
    pub(super) fn key(&self, key: &str) -> String {
        join(&self.name, key)
    }
}

fn join(section: &str, key: &str) -> String {
    match (section, key) {
        ("", key) => key.to_owned(),
        (section, "") => section.to_owned(),
        (section, key) => format!("{section}.{key}"),
    }
}

/// A table that is being read.
pub(super) struct Section<'t, 'i> {
    table: &'t DeTable<'i>,
    /// Such as `stamps[weu-1]`.
    name: String,
    /// Where it is below the section that has a draft, such as `iot-hub`.
    below: String,
    place: Place,
    asked: Vec<&'static str>,
    places: BTreeMap<String, Place>,
}

impl<'t, 'i> Section<'t, 'i> {
    pub(super) fn file(source: usize, table: &'t DeTable<'i>) -> Self {
        Self::new(String::new(), String::new(), Place::start(source), table)
    }

    fn new(name: String, below: String, place: Place, table: &'t DeTable<'i>) -> Self {
        let asked = Vec::new();
        let places = BTreeMap::new();
        Self {
            table,
            name,
            below,
            place,
            asked,
            places,
        }
    }

    /// Calls an element of an array by a text of its own in messages, and returns that text.
    pub(super) fn name_by(&mut self, key: &str) -> Option<String> {
        let text = self.table.get(key)?.get_ref().as_str()?.to_owned();
        let array = self.name.split('[').next().unwrap_or("");
        self.name = format!("{array}[{text}]");
        Some(text)
    }

    pub(super) fn draft<T>(&self, item: T) -> Draft<T> {
        Draft {
            item,
            name: self.name.clone(),
            section: self.place.clone(),
            places: self.places.clone(),
        }
    }

    /// Where a key's value is; the section when the key is not there.
    pub(super) fn place(&self, key: &str) -> &Place {
        self.places
            .get(&join(&self.below, key))
            .unwrap_or(&self.place)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    pub(super) fn holds_table(&self, key: &str) -> bool {
        self.table
            .get(key)
            .is_some_and(|value| value.get_ref().is_table())
    }

    pub(super) fn error(&self, key: &str, message: impl Into<String>, findings: &mut Findings<'_>) {
        findings.error(self.place(key), &join(&self.name, key), message);
    }

    fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.asked.push(key);
        let value = self.table.get(key)?;
        let place = Place {
            source: self.place.source,
            bytes: value.span(),
        };
        self.places.insert(join(&self.below, key), place);
        Some(value)
    }

    /// A key that must be there.
    fn need(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Option<&'t DeValue<'i>> {
        let value = self.get(key);
        if value.is_none() {
            self.error(key, "is missing", findings);
        }
        value.map(Spanned::get_ref)
    }

    /// A text that must be there and not be empty.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<String> {
        let value = self.need(key, findings)?;
        match value.as_str() {
            Some("") => self.error(key, "is empty", findings),
            Some(text) if text.len() > 1_024 => self.error(key, "is over 1,024 bytes", findings),
            Some(text) => return Some(text.to_owned()),
            None => self.wrong(key, value, "a text", findings),
        }
        None
    }

    /// A text that may be missing: `Some(None)` then, and `None` after a problem.
    pub(super) fn optional_text(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<Option<String>> {
        if self.has(key) {
            self.text(key, findings).map(Some)
        } else {
            self.asked.push(key);
            Some(None)
        }
    }

    /// A text that parses.
    pub(super) fn parsed<T, E: std::fmt::Display>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, E>,
        findings: &mut Findings<'_>,
    ) -> Option<T> {
        let text = self.text(key, findings)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(why) => {
                self.error(key, why.to_string(), findings);
                None
            }
        }
    }

    /// One of some words; `default` when it is missing, an error when there is none.
    pub(super) fn word<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        default: Option<T>,
        findings: &mut Findings<'_>,
    ) -> Option<T> {
        if let (false, Some(default)) = (self.has(key), default) {
            self.asked.push(key);
            return Some(default);
        }
        let text = self.text(key, findings)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            self.error(key, format!("is {text:?}; {}", one_of(words)), findings);
        }
        found.map(|(_, value)| *value)
    }

    /// A whole number that must be there.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        findings: &mut Findings<'_>,
    ) -> Option<u64> {
        let value = self.need(key, findings)?;
        let Some(number) = amount(value) else {
            self.wrong(key, value, "a whole number, 0 or more", findings);
            return None;
        };
        self.in_range(key, number, range, findings)
    }

    /// A whole number, or a default.
    pub(super) fn number_or(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
        default: u64,
        findings: &mut Findings<'_>,
    ) -> Option<u64> {
        if self.has(key) {
            return self.number(key, range, findings);
        }
        self.asked.push(key);
        Some(default)
    }

    /// `true` or `false`; the latter when it is missing.
    pub(super) fn flag(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Option<bool> {
        let Some(value) = self.get(key) else {
            return Some(false);
        };
        let value = value.get_ref();
        let flag = value.as_bool();
        if flag.is_none() {
            self.wrong(key, value, "true or false", findings);
        }
        flag
    }

    fn in_range(
        &self,
        key: &str,
        number: u64,
        range: RangeInclusive<u64>,
        findings: &mut Findings<'_>,
    ) -> Option<u64> {
        if range.contains(&number) {
            return Some(number);
        }
        let (low, high) = (range.start(), range.end());
        let must = if low == high {
            format!("must be {low}")
        } else {
            format!("must be {low} to {high}")
        };
        self.error(key, format!("is {number}; {must}"), findings);
        None
    }

    /// A count, or a size such as `"4MB"`; `Some(None)` when it is missing, `None` after a problem.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<Option<u64>> {
        let Some(value) = self.get(key) else {
            return Some(None);
        };
        let value = value.get_ref();
        let parsed = match value.as_str() {
            Some(text) => text.parse::<ByteSize>().ok().map(|size| size.as_u64()),
            None => amount(value),
        };
        if parsed.is_none() {
            self.wrong(
                key,
                value,
                "a whole number or a size such as \"4MB\"",
                findings,
            );
        }
        parsed.map(Some)
    }

    /// A list of texts; empty when it is missing.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<Vec<String>> {
        let Some(value) = self.get(key) else {
            return Some(Vec::new());
        };
        let value = value.get_ref();
        let list = value.as_array().and_then(|array| {
            let text = |item: &Spanned<DeValue<'_>>| {
                let text = item.get_ref().as_str()?;
                (!text.is_empty()).then(|| text.to_owned())
            };
            array.iter().map(text).collect::<Option<Vec<_>>>()
        });
        if list.is_none() {
            self.wrong(key, value, "a list of texts, none of them empty", findings);
        }
        list
    }

    /// A table; `None` when it is missing or no table.
    pub(super) fn section(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<Section<'t, 'i>> {
        let value = self.get(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, value.get_ref(), "a table", findings);
            return None;
        };
        let place = self.place(key).clone();
        let name = join(&self.name, key);
        let below = if self.name.is_empty() {
            String::new()
        } else {
            join(&self.below, key)
        };
        Some(Section::new(name, below, place, table))
    }

    /// Takes over the places of a table below this one, and tells its unknown keys.
    pub(super) fn close(&mut self, section: Section<'t, 'i>, findings: &mut Findings<'_>) {
        section.finish(findings);
        self.places.extend(section.places);
    }

    /// The tables of an array of tables.
    pub(super) fn sections(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Vec<Section<'t, 'i>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let source = self.place.source;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(
                key,
                value.get_ref(),
                "an array of tables, [[...]]",
                findings,
            );
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(array.len());
        for (index, item) in array.iter().enumerate() {
            let name = format!("{}[{index}]", join(&self.name, key));
            let place = Place {
                source,
                bytes: item.span(),
            };
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section::new(name, String::new(), place, table)),
                None => findings.error(&place, &name, "must be a table"),
            }
        }
        sections
    }

    /// Tells every key that was never asked for.
    pub(super) fn finish(&self, findings: &mut Findings<'_>) {
        for (key, _) in self.table.iter() {
            let name = key.get_ref();
            if self.asked.iter().any(|asked| *asked == name.as_ref()) {
                continue;
            }
            let place = Place {
                source: self.place.source,
                bytes: key.span(),
            };
            let message = match nearest(name, &self.asked) {
                Some(known) => format!("is not known here; do you mean {known}?"),
                None => "is not known here".to_owned(),
            };
            findings.error(&place, &join(&self.name, name), message);
        }
    }

    fn wrong(&self, key: &str, value: &DeValue<'_>, wanted: &str, findings: &mut Findings<'_>) {
        let message = format!("is {}; must be {wanted}", article(value.type_str()));
        self.error(key, message, findings);
    }
}

fn amount(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok()?;
    u64::try_from(number).ok()
}

fn article(noun: &str) -> String {
    let noun = if noun == "string" { "text" } else { noun };
    match noun.starts_with(['a', 'e', 'i', 'o', 'u']) {
        true => format!("an {noun}"),
        false => format!("a {noun}"),
    }
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            format!("must be {} or {last}", rest.join(", "))
        }
        _ => format!("must be {}", words.join("")),
    }
}

/// The key that was probably meant: the closest one, at most two letters away.
fn nearest(name: &str, known: &[&'static str]) -> Option<&'static str> {
    let distance = |word: &&'static str| letters_apart(name, word);
    let best = known.iter().min_by_key(|word| distance(word))?;
    (distance(best) <= 2).then_some(best)
}

/// Letters to add, drop or change to get from one word to the other.
fn letters_apart(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = change.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}
