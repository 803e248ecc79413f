//! Rules that every metric follows, and the document that is made of them.

use std::collections::BTreeSet;

use stamp_telemetry::catalogue::{Kind, Unit, all, markdown};

#[test]
fn names_follow_the_prometheus_conventions() {
    for metric in all() {
        let name = metric.name;
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        assert!(
            name.starts_with("stamp_") && name.bytes().all(legal),
            "{name}"
        );
        let is_counter = metric.kind == Kind::Counter;
        assert_eq!(name.ends_with("_total"), is_counter, "{name}");
        // Reserved for the series that a histogram or a client library makes.
        for reserved in ["_sum", "_count", "_bucket", "_created"] {
            assert!(!name.ends_with(reserved), "{name}");
        }
    }
}

#[test]
fn the_unit_is_in_the_name() {
    for metric in all() {
        let words: Vec<&str> = metric.name.split('_').collect();
        for (unit, word) in [
            (Unit::Seconds, "seconds"),
            (Unit::Bytes, "bytes"),
            (Unit::Rows, "rows"),
            (Unit::Sequence, "sequence"),
        ] {
            assert_eq!(
                metric.unit == unit,
                words.contains(&word),
                "{}",
                metric.name
            );
        }
    }
}

#[test]
fn names_are_unique() {
    let names: BTreeSet<&str> = all().iter().map(|metric| metric.name).collect();

    assert_eq!(names.len(), all().len());
}

#[test]
fn no_label_holds_a_device_and_none_is_reserved() {
    for metric in all() {
        for label in metric.labels {
            assert!(!label.name.contains("device"), "{}", metric.name);
            assert!(
                !["stamp", "le", "quantile"].contains(&label.name),
                "{}",
                metric.name
            );
            assert!(!label.values.is_empty(), "{}", metric.name);
        }
    }
}

#[test]
fn buckets_ascend_and_say_why() {
    for metric in all() {
        if let Kind::Histogram { buckets, reason } = metric.kind {
            assert!(
                buckets.windows(2).all(|pair| pair[0] < pair[1]),
                "{}",
                metric.name
            );
            assert!(!reason.is_empty() && buckets.len() <= 15, "{}", metric.name);
        }
    }
}

#[test]
fn every_metric_is_documented() {
    let document = markdown();
    for metric in all() {
        assert!(document.contains(&format!("\n## {}\n\n{}\n", metric.name, metric.help)));
        assert!(
            metric.help.ends_with('.') && metric.reading.ends_with('.'),
            "{}",
            metric.name
        );
    }
}

#[test]
fn the_published_document_is_current() {
    let published = include_str!("../../../docs/metrics.md");

    assert_eq!(published, markdown(), "run `cargo xtask docs`");
}
