//! The rules of `deploy/prometheus`: they load, name what there is, fire and keep quiet as their tests say,
//! and each alert leads to a page that helps.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use stamp_interop::{Prometheus, Vocabulary, promtool};

/// Where an alert's page is read by whoever gets the alert.
const PAGES: &str = "https://github.com/stampworks/stampworks/blob/main/docs/operations/";
/// What each page answers, in this order.
const HEADINGS: &[&str] = &[
    "## Symptom",
    "## Meaning",
    "## First look",
    "## Action",
    "## Over when",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "no .{extension} in {folder}");
    paths
}

#[track_caller]
fn checked(subcommand: &[&str], files: &[PathBuf]) {
    let paths = files.iter().map(|path| path.to_str().unwrap());
    let arguments: Vec<&str> = subcommand.iter().copied().chain(paths).collect();
    let (is_content, printed) = promtool(&arguments, "");
    assert!(is_content, "{printed}");
}

/// A server with the rules, and every rule as it understands it.
fn rules() -> (Prometheus, Vec<Value>) {
    let paths = files("deploy/prometheus/rules", "yaml");
    let listed: String = paths
        .iter()
        .map(|path| format!("\n  - {}", path.display()))
        .collect();
    let prometheus = Prometheus::start(&format!("rule_files:{listed}\n"));
    let rules = prometheus.rules();
    assert!(rules.len() > 20, "{} rules", rules.len());
    (prometheus, rules)
}

fn alerts(rules: &[Value]) -> BTreeMap<String, Value> {
    let alerting = rules.iter().filter(|rule| rule["type"] == "alerting");
    alerting
        .map(|rule| (rule["name"].as_str().unwrap().to_owned(), rule.clone()))
        .collect()
}

#[test]
fn the_rules_load_and_behave_as_their_tests_say() {
    checked(
        &["check", "rules"],
        &files("deploy/prometheus/rules", "yaml"),
    );
    checked(
        &["test", "rules"],
        &files("deploy/prometheus/tests", "yaml"),
    );
}

#[test]
fn the_prometheus_of_the_laptop_has_a_configuration_that_loads() {
    let compose = [root().join("deploy/compose/prometheus.yml")];

    checked(&["check", "config", "--syntax-only"], &compose);
}

#[test]
fn a_rule_names_only_metrics_and_labels_of_the_catalogue() {
    let (prometheus, rules) = rules();
    let vocabulary = Vocabulary::with_rules_of(&prometheus);

    for rule in &rules {
        let unknown = vocabulary.unknown(rule["query"].as_str().unwrap());
        assert!(unknown.is_empty(), "{}: {unknown:?}", rule["name"]);
    }
}

/// Every `expr` of a board, wherever it is.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(
                fields
                    .get("expr")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// Rates of what is no counter, and differences of what is one: Prometheus answers both, with nonsense.
fn misused(query: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (function, wants_counter) in [
        ("rate(", true),
        ("increase(", true),
        ("delta(", false),
        ("deriv(", false),
    ] {
        for (at, _) in query.match_indices(function) {
            let rest = &query[at + function.len()..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
            let name = &rest[..end.unwrap_or(rest.len())];
            let is_counter = ["_total", "_bucket", "_sum", "_count"]
                .iter()
                .any(|suffix| name.ends_with(suffix));
            if is_counter != wants_counter {
                found.push(format!("{function}{name}"));
            }
        }
    }
    found
}

#[test]
fn a_rate_is_of_a_counter_and_a_difference_of_a_gauge() {
    let (_prometheus, rules) = rules();
    let mut all: Vec<String> = rules
        .iter()
        .map(|rule| rule["query"].as_str().unwrap().to_owned())
        .collect();
    for path in files("docs/operations", "md") {
        let page = fs::read_to_string(path).unwrap();
        if page.contains("```promql") {
            all.extend(queries(&page).into_iter().map(str::to_owned));
        }
    }
    for path in files("dashboards", "json") {
        let board = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        expressions(&board, &mut all);
    }
    assert!(all.len() > 150, "{} queries", all.len());
    for query in &all {
        assert_eq!(misused(query), [""; 0], "{query}");
    }
    assert_eq!(
        misused("sum(rate(stamp_lag_events[5m]))"),
        ["rate(stamp_lag_events"]
    );
    assert_eq!(
        misused("delta(stamp_events_total[5m])"),
        ["delta(stamp_events_total"]
    );
}

#[test]
fn every_alert_has_a_test_that_fires_and_one_that_is_quiet() {
    let mut fires = BTreeSet::new();
    let mut quiet = BTreeSet::new();
    for path in files("deploy/prometheus/tests", "yaml") {
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            let Some(alert) = line.strip_prefix("alertname: ") else {
                continue;
            };
            match lines.next() {
                Some("exp_alerts: []") => quiet.insert(alert.to_owned()),
                Some("exp_alerts:") => fires.insert(alert.to_owned()),
                other => panic!("{}: after alertname {alert}: {other:?}", path.display()),
            };
        }
    }
    let alerts: BTreeSet<String> = alerts(&rules().1).into_keys().collect();
    assert_eq!(fires, alerts, "alerts with a test that fires");
    assert_eq!(quiet, alerts, "alerts with a test that keeps quiet");
}

#[test]
fn every_alert_says_how_urgent_it_is_and_leads_to_a_page_that_knows_it() {
    let (prometheus, rules) = rules();
    let vocabulary = Vocabulary::with_rules_of(&prometheus);
    let index = fs::read_to_string(root().join("docs/operations/README.md")).unwrap();
    let mut led_to = BTreeSet::new();
    for (name, alert) in alerts(&rules) {
        let severity = alert["labels"]["severity"].as_str().unwrap_or_default();
        assert!(
            matches!(severity, "page" | "ticket"),
            "{name}: severity {severity:?}"
        );
        let text = |key: &str| {
            alert["annotations"][key]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        assert!(
            !text("summary").is_empty() && text("description").ends_with('.'),
            "{name}"
        );
        let url = text("runbook_url");
        let file = url
            .strip_prefix(PAGES)
            .unwrap_or_else(|| panic!("{name}: {url}"));
        let page = fs::read_to_string(root().join("docs/operations").join(file))
            .unwrap_or_else(|error| panic!("{name}: {file}: {error}"));
        assert!(
            page.contains(&format!("`{name}`")),
            "{file} does not name {name}"
        );
        assert!(
            index.contains(&format!("[`{name}`]({file})")),
            "the index has no link from {name} to {file}"
        );
        assert_eq!(in_order(&page), HEADINGS, "{file}");
        for query in queries(&page) {
            let unknown = vocabulary.unknown(query);
            assert!(unknown.is_empty(), "{file}: {query}: {unknown:?}");
            let answer = prometheus.query(query);
            assert!(answer.is_ok(), "{file}: {query}: {answer:?}");
        }
        led_to.insert(file.to_owned());
    }
    let pages = files("docs/operations", "md").into_iter();
    let pages: BTreeSet<String> = pages
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .filter(|file| file != "README.md")
        .collect();
    assert_eq!(
        pages, led_to,
        "pages that no alert leads to, or the other way round"
    );
}

fn in_order(page: &str) -> Vec<&str> {
    page.lines()
        .filter(|line| line.starts_with("## "))
        .collect()
}

/// The queries of a page: a line each in the blocks marked `promql`, between comments.
fn queries(page: &str) -> Vec<&str> {
    let blocks = page.split("```promql\n").skip(1);
    let lines = blocks.flat_map(|rest| rest.split("```").next().unwrap_or_default().lines());
    let queries: Vec<&str> = lines.filter(|line| !line.starts_with('#')).collect();
    assert!(!queries.is_empty(), "a page without a query:\n{page}");
    queries
}
