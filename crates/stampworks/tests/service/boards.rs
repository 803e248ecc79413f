//! Every query of the dashboards, in a real Prometheus that has scraped real processes; and what these
//! processes say, as `promtool` sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;
use stamp_emulator::OutgoingEvent;
use stamp_interop::{Prometheus, Vocabulary, promtool};
use stamp_model::{HubStamp, MessageSource};
use tokio::task::block_in_place;

use crate::process::{Service, http_get};
use crate::provision::{World, allocate};
use crate::stamp::{EAGER, ENVIRONMENT, SOON, Stamp, until};

/// What Grafana puts in place of its variables.
const VARIABLES: &[(&str, &str)] = &[
    ("$__rate_interval", "1m"),
    ("$__range", "1h"),
    ("$stamp", ".+"),
    ("$tenant", ".+"),
];

fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    here.canonicalize().unwrap()
}

/// Board, panel or other place, and letter of the query.
type Place = (String, String, String);

/// Every query of every board, variables filled in.
fn queries() -> BTreeMap<Place, String> {
    let mut queries = BTreeMap::new();
    let mut add = |board: &Value, panel: &Value, letter: &str, query: &str| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let filled = VARIABLES
            .iter()
            .fold(query.to_owned(), |query, (name, value)| {
                query.replace(name, value)
            });
        assert!(!filled.contains('$'), "a variable is left: {filled}");
        queries.insert(
            (text(&board["uid"]), text(panel), letter.to_owned()),
            filled,
        );
    };
    for entry in fs::read_dir(root().join("dashboards")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let board: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let letter = target["refId"].as_str().unwrap();
                add(
                    &board,
                    &panel["title"],
                    letter,
                    target["expr"].as_str().unwrap(),
                );
            }
        }
        for annotation in board["annotations"]["list"].as_array().unwrap() {
            add(
                &board,
                &annotation["name"],
                "annotation",
                annotation["expr"].as_str().unwrap(),
            );
        }
        for variable in board["templating"]["list"].as_array().unwrap() {
            let Some(definition) = variable["definition"].as_str() else {
                continue;
            };
            let selector = definition
                .strip_prefix("label_values(")
                .and_then(|rest| rest.rsplit_once(", "));
            add(&board, &variable["name"], "variable", selector.unwrap().0);
        }
    }
    assert!(queries.len() > 80, "{} queries", queries.len());
    queries
}

/// `dashboards/expected-empty.toml`: what a healthy run has no answer to.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedEmpty {
    empty: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    board: String,
    panel: String,
    query: String,
    reason: String,
}

fn expected_empty(queries: &BTreeMap<Place, String>) -> BTreeSet<Place> {
    let text = fs::read_to_string(root().join("dashboards/expected-empty.toml")).unwrap();
    let entries: ExpectedEmpty = toml::from_str(&text).unwrap();
    let places = entries.empty.into_iter().map(|entry| {
        let place = (entry.board, entry.panel, entry.query);
        assert!(queries.contains_key(&place), "no query is at {place:?}");
        assert!(entry.reason.ends_with('.'), "why is {place:?} empty?");
        place
    });
    places.collect()
}

/// A server with the shipped rules that scrapes these processes every second.
fn prometheus(processes: &[&Service]) -> Prometheus {
    let targets: Vec<String> = processes
        .iter()
        .map(|process| process.endpoints())
        .collect();
    Prometheus::start(&format!(
        "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
         rule_files: ['{}/deploy/prometheus/rules/*.yaml']\n\
         scrape_configs:\n  - job_name: stampworks\n    static_configs:\n      - targets: {targets:?}\n",
        root().display()
    ))
}

/// A stamp with a tenant that is over its quota.
fn start(stamp: &Stamp) -> Service {
    let more = format!("[consumer]\nhub-retention = \"7d\"\n{EAGER}{SOON}");
    let config = stamp.config("s-1", &more);
    let mut text = fs::read_to_string(&config).unwrap();
    // The tenant is the last table of the file.
    text.push_str("quota = { events-per-second = 5 }\n");
    fs::write(&config, text).unwrap();
    Service::start(&config, &ENVIRONMENT)
}

/// All kinds of events, an event of the hub itself, and a store that is away for a moment.
async fn disturb(stamp: &mut Stamp, service: &Service) {
    let twin_change = OutgoingEvent {
        body: bytes::Bytes::from_static(b"{}"),
        hub: HubStamp {
            device_id: Some("d-1".into()),
            source: MessageSource::TwinChange,
            ..HubStamp::default()
        },
        ..OutgoingEvent::default()
    };
    stamp.hub.publish(0, twin_change).unwrap();
    // Before the others use up the quota: over it, no one looks at what the event is.
    stamp.until_settled().await;
    stamp.publish(2_000);
    stamp.until_settled().await;
    stamp.store.refuse(true);
    stamp.publish(200);
    until("a commit is given up", async || {
        service.metric("stamp_commits_total", &[("outcome", "failed")]) >= 1.0
    })
    .await;
    stamp.store.clear();
    stamp.until_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_of_the_boards_answers_in_a_real_prometheus() {
    let queries = queries();
    let expected = expected_empty(&queries);
    let mut stamp = Stamp::new(2).await;
    let service = start(&stamp);
    let world = World::new(2, None);
    let (provisioner, webhook) = world.start("p-1");
    let prometheus = prometheus(&[&service, &provisioner]);
    let vocabulary = Vocabulary::with_rules_of(&prometheus);
    for (place, query) in &queries {
        let unknown = vocabulary.unknown(query);
        assert!(unknown.is_empty(), "{place:?}: {unknown:?}");
        let answer = block_in_place(|| prometheus.query(query));
        assert!(answer.is_ok(), "{place:?}: {query}: {answer:?}");
    }

    disturb(&mut stamp, &service).await;
    let mut silent: BTreeMap<&Place, &String> = queries
        .iter()
        .filter(|(place, _)| !expected.contains(*place))
        .collect();
    for device in 0.. {
        // Rates need something that goes on. Two devices have room, the others are refused.
        stamp.publish(200);
        let answered = block_in_place(|| allocate(&webhook, &format!("press-{}", device % 4)));
        assert!(answered.is_some(), "{}", provisioner.log());
        silent.retain(|_, query| {
            block_in_place(|| prometheus.query(query))
                .unwrap()
                .is_empty()
        });
        if silent.is_empty() {
            break;
        }
        assert!(device < 240, "without an answer: {silent:#?}");
        service.watch(std::time::Duration::from_millis(500));
    }
    // A mark that is not needed any more would hide the next mistake.
    for place in &expected {
        let answer = block_in_place(|| prometheus.query(&queries[place])).unwrap();
        assert!(
            answer.is_empty(),
            "{place:?} is marked as empty: {answer:?}"
        );
    }
    service.stop();
    provisioner.stop();
    stamp.emulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_processes_say_passes_the_checks_of_prometheus() {
    let mut stamp = Stamp::new(1).await;
    let service = start(&stamp);
    let world = World::new(5, None);
    let (provisioner, webhook) = world.start("p-1");
    disturb(&mut stamp, &service).await;
    allocate(&webhook, "press-1").unwrap();

    for process in [&service, &provisioner] {
        let answer = http_get(&process.endpoints(), "/metrics");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let (is_content, printed) = block_in_place(|| promtool(&["check", "metrics"], body));
        assert!(is_content && printed.is_empty(), "{printed}\n{body}");
    }
    service.stop();
    provisioner.stop();
    stamp.emulator.stop().await;
}
