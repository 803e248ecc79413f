//! Small fleets through everything.

use std::path::Path;

use clap::Parser;
use quick_xml::Reader;
use quick_xml::events::Event;
use stamp_placement::Axis;

use super::scenarios::Simulated;
use super::strategy::Strategy;
use super::world::World;
use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: SimulateArgs,
}

fn args(words: &[&str]) -> Result<SimulateArgs, String> {
    let words = std::iter::once("simulate").chain(words.iter().copied());
    let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
    Ok(cli.args)
}

/// 24,000 devices on six stamps, and an outage as long in proportion to it as the default one.
fn small(seed: u64) -> Settings {
    Settings {
        devices: 24_000,
        stamps: 6,
        seed,
        outage: Duration::from_secs(20),
        ride_out: Duration::from_secs(20),
        gateway_percent: 50,
    }
}

fn simulated(settings: &Settings) -> Simulated {
    simulate(settings, |_| ()).unwrap()
}

#[test]
fn the_shipped_policies_keep_every_promise_with_any_seed() {
    for seed in 0..8 {
        let report = simulated(&small(seed)).report;
        let broken: Vec<_> = report.broken().collect();
        assert!(broken.is_empty(), "seed {seed}: {broken:#?}");
        assert!(report.promises.len() >= 10);
    }
}

#[test]
fn every_naive_policy_needs_more_attempts_than_the_shipped_one() {
    let report = simulated(&small(1)).report;
    let ratio = |strategy| {
        let rows = report.outage.strategies.iter();
        rows.filter(|row| row.strategy == strategy)
            .map(|row| row.amplification)
            .sum::<f64>()
    };
    let worst_step = |strategy| {
        let rows = report.region.strategies.iter();
        rows.filter(|row| row.strategy == strategy)
            .map(|row| row.amplification)
            .sum::<f64>()
    };
    for strategy in Strategy::ALL.into_iter().skip(1) {
        assert!(
            ratio(strategy) > 2.0 * ratio(Strategy::Shipped),
            "{strategy:?}"
        );
        assert!(
            worst_step(strategy) > 1.5 * worst_step(Strategy::Shipped),
            "{strategy:?}"
        );
    }
    let row = &report.outage.strategies[1];
    assert_eq!(row.strategy, Strategy::Regular);
    assert!(row.peak_per_second > 2 * row.limit_per_second);
    assert!(row.throttled > 0 && row.amplification_gateways.is_none());
}

#[test]
fn an_outage_far_longer_than_was_planned_for_is_told_as_a_broken_promise() {
    let settings = Settings {
        outage: Duration::from_secs(600),
        ..small(1)
    };
    let report = simulated(&settings).report;
    let broken: Vec<&str> = report.broken().map(|b| b.promise.as_str()).collect();
    assert!(
        broken
            .iter()
            .any(|promise| promise.ends_with("devices alone"))
    );
    let row = &report.outage.strategies[0];
    assert!(row.amplification_alone > Some(1.5), "{row:?}");
    assert_eq!(row.missing, 0);
}

#[test]
fn devices_that_ride_out_a_long_outage_are_waited_for() {
    let settings = Settings {
        ride_out: Duration::from_secs(2 * 3_600),
        ..small(1)
    };
    let report = simulated(&settings).report;
    let row = &report.outage.strategies[0];
    assert!(row.recovered_all_s > 86_400, "{row:?}");
    assert_eq!(row.missing, 0);
    assert_eq!(report.region.strategies[0].missing, 0);
    assert_eq!(report.broken().count(), 0);
}

#[test]
fn few_attempts_are_no_promise_kept_when_devices_are_missing() {
    let mut report = simulated(&small(1)).report;
    assert!(report.promises().iter().all(|promise| promise.kept));
    report.outage.strategies[0].missing = 1;
    report.region.strategies[0].missing = 1;
    let promises = report.promises().into_iter();
    let broken: Vec<String> = promises
        .filter(|promise| !promise.kept)
        .map(|promise| promise.promise)
        .collect();
    assert_eq!(broken.len(), 5, "{broken:#?}");
    let ratios = broken
        .iter()
        .filter(|promise| promise.contains("at most 1.1"));
    assert_eq!(ratios.count(), 3, "{broken:#?}");
}

#[test]
fn the_page_has_every_promise_and_every_column_of_the_report() {
    let page = include_str!("../../../../docs/fleet-simulation.md");
    let mut report = simulated(&small(1)).report;
    // The default, whose devices are waited for a day.
    report.outage.horizon_s = 86_400;
    report.promises = report.promises();
    for promise in &report.promises {
        let row = format!("| {} | kept |", promise.promise);
        assert!(page.contains(&row), "{row}");
    }
    let lines = report.lines();
    let mut headings = 0;
    for pair in lines.windows(2).filter(|pair| pair[1].starts_with("|---")) {
        assert!(page.contains(&pair[0]), "{}", pair[0]);
        headings += 1;
    }
    assert_eq!(headings, 5);
}

#[test]
fn attempts_are_never_fewer_than_operations() {
    let report = simulated(&small(3)).report;
    for row in &report.outage.strategies {
        assert_eq!(row.operations, 24_000);
        assert!(row.attempts >= row.operations);
    }
    for row in &report.region.strategies {
        assert!(
            row.steps
                .iter()
                .all(|step| step.attempts >= step.operations)
        );
        assert!(row.devices > 0);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_others() {
    let bytes = |seed| {
        let simulated = simulated(&small(seed));
        let report = serde_json::to_string(&simulated.report).unwrap();
        (report, simulated.report.lines().join("\n"), simulated.svg)
    };
    let once = bytes(7);
    assert_eq!(once, bytes(7));
    assert_ne!(once, bytes(8));
}

#[test]
fn the_fleet_that_is_made_up_has_exactly_the_devices_that_were_asked_for() {
    for (devices, stamps) in [(24_000, 6), (20_001, 7), (2_000, 2), (1_600_000, 2)] {
        let (world, refused) = World::new(devices, stamps, 5);
        assert_eq!(refused, 0);
        assert_eq!(
            world
                .tenants
                .values()
                .map(|t| t.expected[Axis::Devices])
                .sum::<u64>(),
            devices
        );
        assert_eq!(world.breaches(), (0, 0));
        let on_stamps = world.stamps.iter().map(|stamp| world.devices_on(&stamp.id));
        assert_eq!(on_stamps.sum::<u64>(), devices);
    }
}

#[test]
fn a_year_adds_stamps_and_moves_few() {
    let report = simulated(&small(2)).report;
    let (first, last) = (&report.growth[0], &report.growth[11]);
    assert!(last.stamps > first.stamps);
    assert!(last.devices > first.devices * 3 / 2);
    let moved: u64 = report.growth.iter().map(|month| month.devices_moved).sum();
    let by_modulo: u64 = report
        .growth
        .iter()
        .map(|m| m.devices_moved_by_modulo)
        .sum();
    assert!(moved * 2 < by_modulo, "{moved} {by_modulo}");
}

#[test]
fn the_plot_is_well_formed_xml() {
    let svg = simulated(&small(1)).svg;
    let mut reader = Reader::from_str(&svg);
    let mut lines = 0;
    loop {
        match reader.read_event().unwrap() {
            Event::Eof => break,
            Event::Empty(tag) => {
                lines += usize::from(tag.name().as_ref() == b"polyline");
                assert!(tag.attributes().all(|attribute| attribute.is_ok()));
            }
            _ => (),
        }
    }
    assert_eq!(lines, 4 + 4 + 3);
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn the_plot_is_written_where_it_was_asked_for_or_the_path_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let run_to = |path: &Path| {
        let words = [
            "--devices",
            "6000",
            "--stamps",
            "2",
            "--outage",
            "5s",
            "--svg",
        ];
        let words: Vec<&str> = words.into_iter().chain([path.to_str().unwrap()]).collect();
        run(args(&words).unwrap())
    };
    let path = folder.path().join("fleet.svg");
    run_to(&path).unwrap();
    assert!(std::fs::read_to_string(&path).unwrap().starts_with("<svg "));
    let missing = folder.path().join("nowhere").join("fleet.svg");
    let error = run_to(&missing).unwrap_err();
    assert_eq!(error.code(), 1);
    assert!(error.to_string().contains("nowhere"));
}

#[test]
fn wrong_arguments_are_refused_by_name() {
    let refused = [
        (vec!["--stamps", "1"], "--stamps"),
        (vec!["--outage", "9h"], "1s to 6h"),
        (vec!["--outage", "0s"], "1s to 6h"),
        (vec!["--ride-out", "soon"], "--ride-out"),
        (vec!["--gateway-percent", "101"], "--gateway-percent"),
        (vec!["--devices", "-5"], "-5"),
        (vec!["--output", "yaml"], "yaml"),
    ];
    for (words, named) in refused {
        let error = args(&words).unwrap_err();
        assert!(error.contains(named), "{words:?}: {error}");
    }
}

#[test]
fn a_fleet_that_no_hub_could_hold_is_a_configuration_error() {
    for devices in ["100000000", "100"] {
        let error = args(&["--devices", devices])
            .unwrap()
            .settings()
            .unwrap_err();
        assert_eq!(error.code(), 3);
    }
    assert!(args(&[]).unwrap().settings().is_ok());
}
