//! A problem of a catalogue, and the list of them.

use std::fmt;
use std::ops::Range;

use serde::Serialize;

use super::{FINDINGS_MAX, Source};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The catalogue cannot be used.
    Error,
    /// It can, and probably something else was meant.
    Warning,
}

/// One problem of a catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, as the caller named it.
    pub file: String,
    /// Counts from 1.
    pub line: usize,
    /// Counts from 1, in characters.
    pub column: usize,
    /// The key, such as `stamps[weu-1].iot-hub.units`; empty for a file as a whole.
    pub key: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        match self.key.as_str() {
            "" => write!(f, "{severity}: {}", self.message),
            key => write!(f, "{severity}: {key}: {}", self.message),
        }
    }
}

/// A piece of text of one of the sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Index of the source.
    pub source: usize,
    /// Bytes of its text.
    pub bytes: Range<usize>,
}

impl Place {
    pub(super) fn start(source: usize) -> Self {
        Self {
            source,
            bytes: 0..0,
        }
    }
}

/// The problems found so far.
pub(super) struct Findings<'a> {
    sources: &'a [Source<'a>],
    /// Where each line of each source starts, made when it is first asked for.
    lines: Vec<Option<Vec<usize>>>,
    found: Vec<(Place, Finding)>,
    more: usize,
}

impl<'a> Findings<'a> {
    pub(super) fn new(sources: &'a [Source<'a>]) -> Self {
        Self {
            sources,
            lines: vec![None; sources.len()],
            found: Vec::new(),
            more: 0,
        }
    }

    pub(super) fn error(&mut self, place: &Place, key: &str, message: impl Into<String>) {
        self.push(Severity::Error, place, key, message.into());
    }

    pub(super) fn warning(&mut self, place: &Place, key: &str, message: impl Into<String>) {
        self.push(Severity::Warning, place, key, message.into());
    }

    /// A place as text, for messages that name a second one.
    pub(super) fn named(&mut self, place: &Place) -> String {
        let (line, _) = self.locate(place);
        format!("{}:{line}", self.file(place))
    }

    /// Everything found, by file and line; errors of the whole first.
    pub(super) fn finish(mut self) -> Vec<Finding> {
        self.found
            .sort_by_key(|(place, _)| (place.source, place.bytes.start));
        let mut found: Vec<Finding> = self.found.into_iter().map(|(_, finding)| finding).collect();
        if let (true, Some(last)) = (self.more > 0, found.last().cloned()) {
            let message = format!("and {} more problems", self.more);
            found.push(Finding {
                message,
                key: String::new(),
                ..last
            });
        }
        found
    }

    fn push(&mut self, severity: Severity, place: &Place, key: &str, message: String) {
        // An error must not be lost behind warnings: the verdict depends on it.
        if self.found.len() >= FINDINGS_MAX && severity == Severity::Warning
            || self.found.len() > FINDINGS_MAX
        {
            self.more += 1;
            return;
        }
        let finding = self.made(severity, place, key, message);
        self.found.push((place.clone(), finding));
    }

    pub(super) fn made(
        &mut self,
        severity: Severity,
        place: &Place,
        key: &str,
        message: String,
    ) -> Finding {
        let (line, column) = self.locate(place);
        Finding {
            severity,
            file: self.file(place).to_owned(),
            line,
            column,
            key: key.to_owned(),
            message,
        }
    }

    fn file(&self, place: &Place) -> &'a str {
        self.sources.get(place.source).map_or("", |s| s.name)
    }

    fn locate(&mut self, place: &Place) -> (usize, usize) {
        let Some(source) = self.sources.get(place.source) else {
            return (1, 1);
        };
        let starts = self.lines[place.source].get_or_insert_with(|| {
            let newlines = source.text.match_indices('\n').map(|(at, _)| at + 1);
            std::iter::once(0).chain(newlines).collect()
        });
        let line = starts.partition_point(|&start| start <= place.bytes.start);
        let start = starts[line - 1];
        let before = source.text.get(start..place.bytes.start).unwrap_or("");
        (line, before.chars().count() + 1)
    }
}
