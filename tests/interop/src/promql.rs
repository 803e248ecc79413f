//! Which metrics and labels a PromQL query names, compared with those that there are.
//!
//! Reads the words of a query, not its grammar: Prometheus itself says whether it parses.

use std::collections::{BTreeMap, BTreeSet};

use stamp_telemetry::catalogue::{Kind, all};

use crate::Prometheus;

/// Operators that are followed by their own `by (...)` or `without (...)`.
const AGGREGATIONS: &[&str] = &[
    "sum",
    "min",
    "max",
    "avg",
    "group",
    "count",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
];
/// Words that are followed by labels in parentheses.
const LABEL_LISTS: &[&str] = &[
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];
const KEYWORDS: &[&str] = &[
    "and", "or", "unless", "bool", "offset", "inf", "nan", "atan2",
];
/// What a histogram's series end in.
const HISTOGRAM_SERIES: &[&str] = &["_bucket", "_sum", "_count"];
/// Given to every series by the scraper.
const TARGET_LABELS: &[&str] = &["job", "instance"];

/// The metrics that a query may name, each with its labels.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    metrics: BTreeMap<String, BTreeSet<String>>,
}

impl Default for Vocabulary {
    /// Only what Prometheus itself makes: `up` for each target, and its alerts.
    fn default() -> Self {
        let mut vocabulary = Self {
            metrics: BTreeMap::new(),
        };
        vocabulary.add("up", &[], false);
        let labels = ["alertname", "alertstate", "severity", "stamp"];
        vocabulary.add("ALERTS", &labels, false);
        vocabulary
    }
}

impl Vocabulary {
    /// The catalogue of the service, and what the rules of this server record: the labels of that are the
    /// first part of its name.
    ///
    /// # Panics
    /// When the server does not answer, or records a name that is not `level:metric:operation`.
    #[must_use]
    #[track_caller]
    pub fn with_rules_of(prometheus: &Prometheus) -> Self {
        let mut vocabulary = Self::default();
        for metric in all() {
            let labels = metric.labels.iter().map(|label| label.name);
            let labels: Vec<&str> = labels.chain(["stamp"]).collect();
            let is_histogram = matches!(metric.kind, Kind::Histogram { .. });
            vocabulary.add(metric.name, &labels, is_histogram);
        }
        let rules = prometheus.rules();
        for rule in rules.iter().filter(|rule| rule["type"] == "recording") {
            let name = rule["name"].as_str().unwrap_or_default();
            let parts: Vec<&str> = name.split(':').collect();
            assert_eq!(parts.len(), 3, "{name} is not level:metric:operation");
            vocabulary.add(name, &parts[0].split('_').collect::<Vec<_>>(), false);
        }
        vocabulary
    }

    /// Adds a metric with its labels, besides those that the scraper gives.
    pub fn add(&mut self, name: &str, labels: &[&str], is_histogram: bool) {
        let mut known: BTreeSet<String> = TARGET_LABELS.iter().map(|&l| l.to_owned()).collect();
        known.extend(labels.iter().map(|&label| label.to_owned()));
        if is_histogram {
            for series in HISTOGRAM_SERIES {
                let mut labels = known.clone();
                if *series == "_bucket" {
                    labels.insert("le".to_owned());
                }
                self.metrics.insert(format!("{name}{series}"), labels);
            }
        } else {
            self.metrics.insert(name.to_owned(), known);
        }
    }

    /// What a query names and is not there: one line each.
    #[must_use]
    pub fn unknown(&self, query: &str) -> Vec<String> {
        let names = names(query);
        let mut found = Vec::new();
        let mut possible: BTreeSet<&str> = BTreeSet::new();
        for (metric, labels) in &names.selectors {
            let Some(known) = self.metrics.get(metric) else {
                found.push(format!("no metric {metric}"));
                continue;
            };
            possible.extend(known.iter().map(String::as_str));
            let unknown = labels.iter().filter(|label| !known.contains(*label));
            found.extend(unknown.map(|label| format!("{metric} has no label {label}")));
        }
        let unknown = names
            .grouped
            .iter()
            .filter(|label| !possible.contains(label.as_str()));
        found.extend(unknown.map(|label| format!("no metric of the query has a label {label}")));
        found
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    /// Each metric with the labels it is selected by.
    selectors: Vec<(String, Vec<String>)>,
    /// Labels of `by`, `on` and their kin.
    grouped: Vec<String>,
}

fn names(query: &str) -> Names {
    let tokens = tokens(query);
    let mut names = Names::default();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        at += 1;
        let Token::Word(word) = token else { continue };
        let opens = |sign| tokens.get(at) == Some(&Token::Sign(sign));
        let is_function = opens('(') || AGGREGATIONS.contains(&word.as_str());
        if LABEL_LISTS.contains(&word.as_str()) && opens('(') {
            let end = close(&tokens, at, ')');
            names.grouped.extend(words(&tokens[at..end]));
            at = end;
        } else if opens('{') {
            let end = close(&tokens, at, '}');
            names
                .selectors
                .push((word.clone(), words(&tokens[at..end])));
            at = end;
        } else if !is_function && !KEYWORDS.contains(&word.to_lowercase().as_str()) {
            names.selectors.push((word.clone(), Vec::new()));
        }
    }
    names
}

fn close(tokens: &[Token], from: usize, sign: char) -> usize {
    let rest = tokens[from..].iter();
    let closes = rest.clone().position(|token| *token == Token::Sign(sign));
    closes.map_or(tokens.len(), |distance| from + distance)
}

fn words(tokens: &[Token]) -> Vec<String> {
    let words = tokens.iter().filter_map(|token| match token {
        Token::Word(word) => Some(word.clone()),
        Token::Sign(_) => None,
    });
    words.collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Sign(char),
}

/// Words and signs; texts, numbers and what is in brackets are left out.
fn tokens(query: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut letters = query.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' | '\'' => skip_text(&mut letters, letter),
            '[' => letters.by_ref().take_while(|&l| l != ']').for_each(drop),
            _ if letter.is_ascii_digit() => {
                // With its unit or exponent, as in `5m` or `1e9`.
                while letters
                    .next_if(|l| l.is_ascii_alphanumeric() || *l == '.')
                    .is_some()
                {}
            }
            _ if letter.is_ascii_alphabetic() || letter == '_' => {
                let mut word = letter.to_string();
                let more = |l: &char| l.is_ascii_alphanumeric() || matches!(l, '_' | ':');
                while let Some(next) = letters.next_if(more) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            _ if letter.is_whitespace() => {}
            sign => tokens.push(Token::Sign(sign)),
        }
    }
    tokens
}

fn skip_text(letters: &mut impl Iterator<Item = char>, quote: char) {
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => drop(letters.next()),
            _ if letter == quote => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> Vocabulary {
        let mut vocabulary = Vocabulary::default();
        vocabulary.add("lag", &["stamp", "partition"], false);
        vocabulary.add("took_seconds", &["stamp"], true);
        vocabulary.add("stamp:lag:max", &["stamp"], false);
        vocabulary
    }

    #[test]
    fn what_is_there_is_not_told() {
        for query in [
            "max by (stamp, partition) (lag{partition=~\"a|b\", job='x'}) > 0 and on (stamp) stamp:lag:max",
            "histogram_quantile(0.95, sum by (le) (rate(took_seconds_bucket[5m])))",
            "sum(lag offset 1h) without (instance) / on () group_left () 1e9",
            "up{instance=\"lost{x=\\\"1\\\"}\"} == bool 0 or topk(3, lag)",
        ] {
            assert_eq!(vocabulary().unknown(query), Vec::<String>::new(), "{query}");
        }
    }

    #[test]
    fn unknown_metrics_and_labels_are_told() {
        for (query, wrong) in [
            ("rate(lagg[5m])", "no metric lagg"),
            ("lag{tenant=\"a\"}", "lag has no label tenant"),
            (
                "sum by (tenant) (lag)",
                "no metric of the query has a label tenant",
            ),
            ("took_seconds", "no metric took_seconds"),
            (
                "took_seconds_sum{le=\"1\"}",
                "took_seconds_sum has no label le",
            ),
        ] {
            assert_eq!(vocabulary().unknown(query), [wrong], "{query}");
        }
    }
}
