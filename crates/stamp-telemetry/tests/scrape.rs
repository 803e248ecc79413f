//! A whole scrape, read line by line as Prometheus reads it.
#![expect(
    clippy::unwrap_used,
    reason = "the helpers of a test file are not seen as test code"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use stamp_model::{Invariant, MessageSource, PartitionId, QuarantineReason, StampId, TenantId};
use stamp_resilience::{BreakerState, GiveUpReason, Observer, Outcome, PauseCause, RetryEvent};
use stamp_telemetry::catalogue::{Definition, all};
use stamp_telemetry::{
    AnswerOrigin, CommitOutcome, Metrics, MoveMetrics, MoverMetrics, PartitionState,
    ProvisionMetrics, ProvisionRoute, Registry, RetryMetrics, StampFill, TelemetryError,
    TraceConfig, TracedHub, Traces,
};

/// Series and their values, after every line was checked against the catalogue.
struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    #[track_caller]
    fn of(registry: &Registry) -> Self {
        let text = registry.text();
        let mut values = BTreeMap::new();
        let mut current: Option<&Definition> = None;
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                let found = all().into_iter().find(|metric| metric.name == name);
                let metric = found.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
                assert_eq!(help, metric.help);
                current = Some(metric);
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let metric = current.unwrap();
                assert_eq!(kind, format!("{} {}", metric.name, metric.kind.name()));
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                check_labels(current.unwrap(), series);
                let known = values.insert(series.to_owned(), value.parse().unwrap());
                assert!(known.is_none(), "twice: {series}");
            }
        }
        Self(values)
    }

    #[track_caller]
    fn is(&self, series: &str, value: f64) {
        assert_eq!(
            self.0.get(series),
            Some(&value),
            "{series} in {:#?}",
            self.0
        );
    }
}

/// A series has its metric's labels, the stamp, and for a bucket its bound.
#[track_caller]
fn check_labels(metric: &Definition, series: &str) {
    let (name, labels) = series.strip_suffix('}').unwrap().split_once('{').unwrap();
    let rest = name.strip_prefix(metric.name).unwrap();
    assert!(
        ["", "_bucket", "_sum", "_count"].contains(&rest),
        "{series}"
    );
    let mut expected: Vec<&str> = metric.labels.iter().map(|label| label.name).collect();
    expected.push("stamp");
    if rest == "_bucket" {
        expected.push("le");
    }
    expected.sort_unstable();
    // No value in these tests has a comma.
    let mut found: Vec<&str> = labels
        .split(',')
        .map(|pair| pair.split_once('=').unwrap().0)
        .collect();
    found.sort_unstable();
    assert_eq!(found, expected, "{series}");
}

fn stamp(id: &str) -> StampId {
    StampId::parse(id).unwrap()
}

fn tenant(id: &str) -> TenantId {
    TenantId::parse(id).unwrap()
}

fn partition(number: u32) -> PartitionId {
    PartitionId::new(number).unwrap()
}

fn metrics() -> (Registry, Metrics) {
    let registry = Registry::new();
    let metrics = Metrics::new(&registry, &stamp("eu-1")).unwrap();
    (registry, metrics)
}

/// Touches every handle once.
fn everything(metrics: &Metrics, retry: &RetryMetrics) {
    let acme = tenant("acme");
    metrics.received(partition(0), 12, 1_200);
    metrics.readings(&acme, 9);
    metrics.rejected(&acme, "out_of_range", 1);
    metrics.quarantined(None, QuarantineReason::UnknownTenant, 1);
    metrics.over_quota(&acme, "devices", 1);
    metrics.redelivered(partition(0), 1);
    metrics.checkpoint_unusable(partition(0), "lost");
    metrics.dropped_by_mark("readings", 1);
    metrics.late(&acme, 2);
    metrics.clock_suspect(&acme, 3);
    metrics.notifications(&MessageSource::TwinChange, 1);
    metrics.gap(partition(0), 5);
    metrics.written(Some(&acme), "readings", 9, 900);
    metrics.written(None, "quarantine", 1, 100);
    metrics.fresh(&acme, [1_500_000, -3]);
    metrics.commit("readings", CommitOutcome::Committed);
    metrics.commit_conflicts("readings", 2);
    metrics.flushed(Duration::from_millis(80), 9, 4_000);
    metrics.lag(partition(0), 30, Duration::from_secs(4));
    metrics.unflushed(partition(0), [(&acme, Duration::from_secs(7))]);
    metrics.buffered(1_000);
    metrics.buffer_limit(64 << 20);
    metrics.checkpoint(partition(0), 41);
    metrics.retention_headroom(partition(0), Duration::from_secs(86_000));
    metrics.partition_state(partition(0), PartitionState::Reading);
    metrics.decoded(8, 1);
    metrics.violated(Invariant::OnlyForward);
    for event in retry_events() {
        retry.event(&event);
    }
}

fn retry_events() -> [RetryEvent<'static>; 6] {
    let (peer, operation) = ("store", "commit");
    [
        RetryEvent::Attempt {
            peer,
            operation,
            number: 1,
            read_back: false,
            took: Duration::from_millis(30),
            outcome: Outcome::Throttled,
            error: None,
        },
        RetryEvent::Pause {
            peer,
            operation,
            length: Duration::from_millis(700),
            cause: PauseCause::RetryAfter,
        },
        RetryEvent::GaveUp {
            peer,
            operation,
            attempts: 3,
            took: Duration::from_secs(9),
            reason: GiveUpReason::Exhausted,
            may_have_happened: false,
            error: None,
        },
        RetryEvent::Budget {
            peer,
            tokens: 2.5,
            tokens_max: 10,
        },
        RetryEvent::Breaker {
            peer,
            state: BreakerState::Open,
            open_for: None,
        },
        RetryEvent::Nested {
            peer,
            operation,
            outer_peer: "eventhubs",
            outer_operation: "read",
        },
    ]
}

/// The runtime that sends spans is at hand.
#[tokio::test]
async fn every_metric_of_the_catalogue_is_in_a_scrape_with_its_labels() {
    let (registry, metrics) = metrics();
    let retry = RetryMetrics::new(&registry, &stamp("eu-1")).unwrap();

    everything(&metrics, &retry);
    let moves = MoveMetrics::new(&registry, &stamp("eu-1")).unwrap();
    moves.devices([("planned", 3)].into_iter());
    moves.acted("point-enrolment", "done");
    let mover = MoverMetrics::new(&registry, &stamp("mover"), &["running"]).unwrap();
    mover.state("line-7", "running");
    mover.progress("line-7", [("planned", 3)].into_iter(), (0, 0));
    mover.answered("moves", "begun");
    everything_of_a_provisioner(&ProvisionMetrics::new(&registry, &stamp("place-1")).unwrap());

    let collector = TraceConfig {
        endpoint: "http://127.0.0.1:1/v1/traces".into(),
        headers: Vec::new(),
        ratio: 1.0,
    };
    let hub = TracedHub {
        hub: "telemetry".into(),
        group: "$Default".into(),
    };
    Traces::to_collector(&collector, &registry, &stamp("eu-1"), hub).unwrap();

    let scrape = Scrape::of(&registry);
    for metric in all() {
        let found = scrape
            .0
            .keys()
            .any(|series| series.starts_with(metric.name));
        assert!(found, "{} is not scraped", metric.name);
    }
}

fn everything_of_a_provisioner(provision: &ProvisionMetrics) {
    for route in [
        ProvisionRoute::Allocate,
        ProvisionRoute::Tenant,
        ProvisionRoute::Device,
        ProvisionRoute::OpenApi,
        ProvisionRoute::Other,
    ] {
        provision.answered(route, "kept", Duration::from_millis(2));
    }
    provision.database(true);
    provision.reserve(3, 0.5);
    provision.reserve_written();
    provision.fill(&[fill("eu-1", 40), fill("us-1", 3)]);
    provision.catalogue_read(false);
}

fn fill(id: &str, booked: u64) -> StampFill {
    StampFill {
        stamp: stamp(id),
        axis: "devices",
        booked,
        soft: 80,
        hard: 100,
        bookable: 90,
    }
}

#[test]
fn how_full_a_stamp_is_is_told_until_the_catalogue_has_it_no_more() {
    let registry = Registry::new();
    let provision = ProvisionMetrics::new(&registry, &stamp("place-1")).unwrap();
    provision.fill(&[fill("eu-1", 40), fill("us-1", 3)]);
    provision.fill(&[fill("eu-1", 41)]);

    let scrape = Scrape::of(&registry);
    let of = |limit: &str| {
        format!(
            "stamp_provision_capacity{{axis=\"devices\",limit=\"{limit}\",stamp=\"place-1\",target_stamp=\"eu-1\"}}"
        )
    };
    for (series, value) in [
        (
            "stamp_provision_booked{axis=\"devices\",stamp=\"place-1\",target_stamp=\"eu-1\"}"
                .to_owned(),
            41.0,
        ),
        (of("soft"), 80.0),
        (of("hard"), 100.0),
        (of("bookable"), 90.0),
    ] {
        scrape.is(&series, value);
    }
    assert!(!scrape.0.keys().any(|series| series.contains("us-1")));
}

#[test]
fn a_provisioner_counts_its_answers_by_route_and_origin() {
    let registry = Registry::new();
    let provision = ProvisionMetrics::new(&registry, &stamp("place-1")).unwrap();
    Scrape::of(&registry).is(r#"stamp_catalogue_current{stamp="place-1"}"#, 1.0);
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("stamp_build_info{{stamp=\"place-1\",version=\"{version}\"}}");
    Scrape::of(&registry).is(&build, 1.0);

    everything_of_a_provisioner(&provision);

    let scrape = Scrape::of(&registry);
    for origin in AnswerOrigin::ALL {
        let count = f64::from(u8::from(origin == AnswerOrigin::Kept));
        let series = format!(
            "stamp_provision_requests_total{{outcome=\"{}\",route=\"allocate\",stamp=\"place-1\"}}",
            origin.as_str()
        );
        scrape.is(&series, count);
    }
    for (series, value) in [
        ("stamp_provision_database_reached{stamp=\"place-1\"}", 1.0),
        ("stamp_provision_reserve_pending{stamp=\"place-1\"}", 3.0),
        ("stamp_provision_reserve_used_ratio{stamp=\"place-1\"}", 0.5),
        (
            "stamp_provision_reserve_written_total{stamp=\"place-1\"}",
            1.0,
        ),
        (
            "stamp_catalogue_reloads_total{outcome=\"refused\",stamp=\"place-1\"}",
            1.0,
        ),
        ("stamp_catalogue_current{stamp=\"place-1\"}", 0.0),
    ] {
        scrape.is(series, value);
    }
}

#[test]
fn outcomes_add_up_to_what_was_received() {
    let (registry, metrics) = metrics();
    let retry = RetryMetrics::new(&registry, &stamp("eu-1")).unwrap();

    everything(&metrics, &retry);

    let scrape = Scrape::of(&registry);
    let sum = |metric: &str| -> f64 {
        let of_metric = scrape
            .0
            .iter()
            .filter(|(series, _)| series.starts_with(metric));
        of_metric.map(|(_, value)| value).sum()
    };
    scrape.is(
        r#"stamp_events_received_total{partition="0",stamp="eu-1"}"#,
        12.0,
    );
    scrape.is(
        r#"stamp_events_total{outcome="quarantined",stamp="eu-1",tenant="none"}"#,
        1.0,
    );
    assert_eq!(sum("stamp_events_total"), 12.0);
    assert_eq!(sum("stamp_rejected_events_total"), 1.0);
    assert_eq!(sum("stamp_quarantined_events_total"), 1.0);
}

#[test]
fn counters_of_known_labels_are_there_before_anything_happened() {
    let (registry, _metrics) = metrics();

    let scrape = Scrape::of(&registry);
    for invariant in Invariant::ALL {
        let id = invariant.id();
        scrape.is(
            &format!(r#"stamp_invariant_violations_total{{id="{id}",stamp="eu-1"}}"#),
            0.0,
        );
    }
    for reason in QuarantineReason::ALL {
        let code = reason.code();
        scrape.is(
            &format!(r#"stamp_quarantined_events_total{{reason="{code}",stamp="eu-1"}}"#),
            0.0,
        );
    }
}

#[test]
fn a_partition_is_in_one_state() {
    let (registry, metrics) = metrics();
    metrics.partition_state(partition(2), PartitionState::Opening);

    metrics.partition_state(partition(2), PartitionState::Paused);

    let scrape = Scrape::of(&registry);
    let state = |name: &str| {
        format!(r#"stamp_partition_state{{partition="2",stamp="eu-1",state="{name}"}}"#)
    };
    scrape.is(&state("opening"), 0.0);
    scrape.is(&state("paused"), 1.0);
}

#[test]
fn the_oldest_unflushed_age_is_the_oldest_of_all_partitions() {
    let (registry, metrics) = metrics();
    let acme = tenant("acme");
    let series = r#"stamp_oldest_unflushed_age_seconds{stamp="eu-1",tenant="acme"}"#;
    metrics.unflushed(partition(0), [(&acme, Duration::from_secs(9))]);
    metrics.unflushed(partition(1), [(&acme, Duration::from_secs(4))]);
    Scrape::of(&registry).is(series, 9.0);

    metrics.unflushed(partition(0), []);
    Scrape::of(&registry).is(series, 4.0);

    metrics.unflushed(partition(1), []);
    Scrape::of(&registry).is(series, 0.0);
}

#[test]
fn tenants_past_the_cap_are_one_series() {
    let (registry, metrics) = metrics();

    for number in 0..1_000 {
        metrics.late(&tenant(&format!("t{number}")), 1);
    }

    let scrape = Scrape::of(&registry);
    scrape.is(r#"stamp_late_rows_total{stamp="eu-1",tenant="t99"}"#, 1.0);
    scrape.is(
        r#"stamp_late_rows_total{stamp="eu-1",tenant="other"}"#,
        900.0,
    );
}

#[test]
fn two_stamps_share_a_registry_and_one_stamp_is_registered_once() {
    let (registry, metrics) = metrics();
    let other = Metrics::new(&registry, &stamp("eu-2")).unwrap();
    metrics.received(partition(0), 1, 10);
    other.received(partition(0), 2, 20);

    let twice = Metrics::new(&registry, &stamp("eu-1"));

    let error = twice.err().unwrap();
    assert!(matches!(error, TelemetryError::Registered { .. }));
    assert!(error.to_string().contains("eu-1"), "{error}");
    let scrape = Scrape::of(&registry);
    scrape.is(
        r#"stamp_events_received_total{partition="0",stamp="eu-1"}"#,
        1.0,
    );
    scrape.is(
        r#"stamp_events_received_total{partition="0",stamp="eu-2"}"#,
        2.0,
    );
}

#[test]
fn every_retry_event_is_a_metric() {
    let registry = Registry::new();
    let retry = RetryMetrics::new(&registry, &stamp("eu-1")).unwrap();
    let [attempt, pause, gave_up, budget, breaker, nested] = retry_events();

    retry.event(&attempt);
    let closed = r#"stamp_breaker_state{peer="store",stamp="eu-1",state="closed"}"#;
    Scrape::of(&registry).is(closed, 1.0);
    for event in [pause, gave_up, budget, breaker, nested] {
        retry.event(&event);
    }

    let scrape = Scrape::of(&registry);
    scrape.is(closed, 0.0);
    scrape.is(
        r#"stamp_breaker_state{peer="store",stamp="eu-1",state="open"}"#,
        1.0,
    );
    scrape.is(
        r#"stamp_retry_attempts_total{operation="commit",outcome="throttled",peer="store",stamp="eu-1"}"#,
        1.0,
    );
    scrape.is(
        r#"stamp_retry_pause_seconds_sum{cause="retry_after",peer="store",stamp="eu-1"}"#,
        0.7,
    );
    scrape.is(
        r#"stamp_retry_give_ups_total{peer="store",reason="exhausted",stamp="eu-1"}"#,
        1.0,
    );
    scrape.is(
        r#"stamp_retry_budget_tokens{peer="store",stamp="eu-1"}"#,
        2.5,
    );
    scrape.is(
        r#"stamp_retry_budget_limit_tokens{peer="store",stamp="eu-1"}"#,
        10.0,
    );
    scrape.is(r#"stamp_retry_nested_total{stamp="eu-1"}"#, 1.0);
}
