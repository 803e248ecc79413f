//! Good catalogues give a fleet, bad ones every problem at its place.

use super::*;
use crate::fleet::{Environment, Kind, Placing, Ring, StampState, TenantState};
use crate::load::{Axis, Limit};

const STAMPS: &str = include_str!("../../../../deploy/examples/fleet/stamps.toml");
const TENANTS: &str = include_str!("../../../../deploy/examples/fleet/tenants.toml");

fn example<'a>(stamps: &'a str, tenants: &'a str) -> [Source<'a>; 2] {
    let source = |name, text| Source { name, text };
    [
        source("stamps.toml", stamps),
        source("tenants.toml", tenants),
    ]
}

fn good(stamps: &str, tenants: &str) -> Catalogue {
    let told = |found: Vec<Finding>| panic!("{}", found[0]);
    read(&example(stamps, tenants)).unwrap_or_else(told)
}

/// Everything told of the example with one change in one of its files.
#[track_caller]
fn told(from: &str, to: &str) -> Vec<String> {
    let found = STAMPS.matches(from).count() + TENANTS.matches(from).count();
    assert!(found > 0, "{from:?} is not in the example");
    let change = |text: &str| text.replacen(from, to, 1);
    let (stamps, tenants) = match STAMPS.contains(from) {
        true => (change(STAMPS), TENANTS.to_owned()),
        false => (STAMPS.to_owned(), change(TENANTS)),
    };
    let found = match read(&example(&stamps, &tenants)) {
        Ok(catalogue) => catalogue.warnings,
        Err(found) => found,
    };
    found.iter().map(ToString::to_string).collect()
}

/// One problem is told, with all of `words`.
#[track_caller]
fn check(from: &str, to: &str, words: &[&str]) {
    let told = told(from, to);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        words.iter().all(|word| told[0].contains(word)),
        "{}",
        told[0]
    );
}

#[test]
fn the_example_fleet_is_a_good_one() {
    let catalogue = good(STAMPS, TENANTS);
    assert_eq!(catalogue.warnings, []);
    let fleet = &catalogue.fleet;
    assert_eq!(fleet.image, "registry.example/stampworks");
    let ids: Vec<&str> = fleet.stamps().iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["eus-1", "eus-2", "weu-1", "weu-fabrikam", "weu-test"]);
    let stamp = &fleet.stamps()[2];
    assert_eq!((stamp.kind, stamp.ring), (Kind::Shared, Ring::Early));
    assert_eq!(
        stamp.capacity[Axis::Devices],
        Limit {
            soft: 80_000,
            hard: 100_000
        }
    );
    assert_eq!(
        stamp.capacity[Axis::BytesPerSecond],
        Limit {
            soft: 1_500_000,
            hard: 2_000_000
        }
    );
    assert_eq!(stamp.service.memory_bytes, 2 << 30);
    assert_eq!(fleet.stamps()[1].state, StampState::Planned);
    let fabrikam = &fleet.tenants()[1];
    assert!(matches!(&fabrikam.placing, Placing::Stamps(stamps) if stamps.len() == 2));
    assert_eq!(fleet.tenants()[2].state, TenantState::Trial);
    assert_eq!(fleet.tenants()[0].expected[Axis::Devices], 12_000);
    assert_eq!(fleet.tenants()[0].quota.bytes_per_second, Some(400_000));
}

#[test]
fn what_is_not_written_is_what_the_tiers_take() {
    let fleet = good(STAMPS, TENANTS).fleet;
    let stamp = &fleet.stamps()[0];
    // 4 units of S2 at 6,000,000 a day; their 480 sends a second are less than 4 throughput units.
    assert_eq!(
        stamp.capacity[Axis::MessagesPerDay],
        Limit {
            soft: 19_200_000,
            hard: 24_000_000
        }
    );
    assert_eq!(
        stamp.capacity[Axis::EventsPerSecond],
        Limit {
            soft: 384,
            hard: 480
        }
    );
    assert_eq!(stamp.capacity[Axis::BytesPerSecond].hard, 4_000_000);
    let dedicated = &fleet.stamps()[3];
    assert_eq!(
        dedicated.capacity[Axis::Tenants],
        Limit { soft: 1, hard: 1 }
    );
    assert_eq!(dedicated.environment, Environment::Production);
}

#[test]
fn the_places_of_versions_are_the_texts_to_change() {
    let catalogue = good(STAMPS, TENANTS);
    for place in &catalogue.versions {
        assert_eq!(
            (place.source, &STAMPS[place.bytes.clone()]),
            (0, "\"0.1.0\"")
        );
    }
}

#[test]
fn a_mistake_in_one_section_is_told_with_line_and_key() {
    check(
        "kind = \"shared\"",
        "kind = \"shard\"",
        &[
            "stamps.toml:13:8: error: stamps[weu-test].kind",
            "shared or dedicated",
        ],
    );
    check(
        "units = 1\n",
        "unit = 1\nunits = 1\n",
        &["stamps[weu-test].iot-hub.unit", "do you mean units?"],
    );
    check(
        "tier = \"S1\"",
        "tier = \"S4\"",
        &["iot-hub.tier", "\"S4\"", "F1, B1"],
    );
    check(
        "units = 1\n",
        "units = 201\n",
        &["iot-hub.units", "201", "1 to 200"],
    );
    check(
        "partitions = 4",
        "partitions = 33",
        &["event-hub.partitions", "1 to 32"],
    );
    check(
        "region = \"westeurope\"",
        "region = \"West Europe\"",
        &["stamps[weu-test].region", "West Europe"],
    );
    check(
        "version = \"0.1.0\"",
        "version = \"a b\"",
        &["stamps[weu-test].version", "image tag"],
    );
    check(
        "storage-root = \"az://contosoweutest/telemetry\"",
        "storage-root = \"s3://x\"",
        &["storage-root", "az://"],
    );
    check(
        "metrics = [\"http://stampworks.weu-test",
        "metrics = [\"https://stampworks.weu-test",
        &["metrics", "http://"],
    );
    check(
        "replicas-max = 2",
        "replicas-max = 5",
        &["service.replicas-max", "1 to 4"],
    );
    check(
        "memory = \"2GiB\"",
        "memory = \"2 elephants\"",
        &["service.memory", "a text", "4MB"],
    );
    check(
        "memory = \"2GiB\"",
        "memory = \"200MiB\"",
        &["service.memory", "256MiB"],
    );
    check(
        "devices = 2000\n",
        "devices = \"many\"\n",
        &["capacity.devices", "whole number"],
    );
    check(
        "image = \"registry.example/stampworks\"",
        "image = 7",
        &["fleet.image", "an integer", "a text"],
    );
    check(
        "id = \"contoso\"",
        "id = \"Contoso\"",
        &["tenants.toml:6:6", "tenants[Contoso].id", "a-z"],
    );
    check(
        "rings = [\"general\", \"early\"]",
        "rings = [\"generic\"]",
        &["placement.rings", "generic"],
    );
    check(
        "devices = [\"press-*\", \"gate-7\"]",
        "devices = [\"press *\"]",
        &["tenants[contoso].devices"],
    );
    check(
        "devices-max = 500",
        "devices-max = 0",
        &["tenants[northwind].quota.devices-max", "1 to 2000000"],
    );
    check(
        "version = 1\n",
        "version = 2\n",
        &["stamps.toml:3:11: error: version", "must be 1"],
    );
    check(
        "schema = \"schemas/contoso.toml\"\n",
        "",
        &[
            "tenants.toml:5:1: error: tenants[contoso].schema",
            "missing",
        ],
    );
    check(
        "consumer-group = \"stampworks\"",
        "consumer-grp = \"x\"",
        &["consumer-grp", "consumer-group?"],
    );
}

#[test]
fn a_stamp_is_not_larger_than_its_tiers() {
    check(
        "devices = 400000",
        "devices = 1000001",
        &[
            "stamps[weu-fabrikam].capacity.devices",
            "1000001",
            "S3",
            "1000000",
        ],
    );
    check(
        "events-per-second = 5000\nbytes",
        "events-per-second = 6001\nbytes",
        &[
            "capacity.events-per-second",
            "6001",
            "1 units of tier S3 take 6000",
        ],
    );
    check(
        "hard = \"2MB\"",
        "hard = \"5MB\"",
        &[
            "capacity.bytes-per-second",
            "4 throughput units of Event Hubs take 4000000",
        ],
    );
    check(
        "devices = { soft = 80000, hard = 100000 }",
        "devices = { soft = 100001, hard = 100000 }",
        &[
            "stamps[weu-1].capacity.devices",
            "100001",
            "above the hard one, 100000",
        ],
    );
    check(
        "tenants = 20\n",
        "\n",
        &["stamps[weu-test].capacity.tenants", "missing"],
    );
    check(
        "bytes-per-second = \"10MB\"\n",
        "bytes-per-second = \"10MB\"\ntenants = 2\n",
        &["weu-fabrikam].capacity.tenants", "one tenant: 1"],
    );
}

#[test]
fn references_lead_somewhere_and_nothing_is_used_twice() {
    check(
        "id = \"eus-1\"",
        "id = \"weu-1\"",
        &["stamps[weu-1].id", "twice", "stamps.toml:42"],
    );
    check(
        "name = \"contoso-weu-1.azure",
        "name = \"Contoso-WEU-test.azure",
        &["stamps[weu-1].iot-hub.name", "stamps.toml:21"],
    );
    check(
        "az://fabrikamweu/telemetry",
        "az://contosoweutest/telemetry/more",
        &["stamps[weu-fabrikam].storage-root", "overlaps"],
    );
    check(
        "az://contosoweutest/telemetry",
        "az://contosoweu1/other",
        &[
            "stamps[weu-1].tenant-containers",
            "another stamp's",
            "stamps.toml",
        ],
    );
    check(
        "id = \"northwind\"",
        "id = \"north--wind\"",
        &[
            "stamps[weu-1].tenant-containers",
            "north--wind",
            "single '-'",
        ],
    );
    check(
        "id = \"northwind\"",
        "id = \"telemetry\"",
        &["stamps[weu-1].tenant-containers", "stamp's own container"],
    );
    check(
        "storage-root = \"az://contosoweu1/telemetry\"",
        "storage-root = \"file:///data\"",
        &["stamps[weu-1].tenant-containers", "az://account/container"],
    );
    check(
        "tenant-containers = true",
        "tenant-containers = \"yes\"",
        &["stamps[weu-1].tenant-containers", "true or false"],
    );
    check(
        "stamps = [\"weu-fabrikam\", \"weu-test\"]",
        "stamps = [\"weu-fabrikam\", \"weu-tset\"]",
        &["tenants[fabrikam].stamps", "no stamp is called weu-tset"],
    );
    check(
        "stamps = [\"weu-fabrikam\", \"weu-test\"]",
        "stamps = [\"weu-fabrikam\", \"weu-1\"]",
        &["weu-fabrikam and weu-1 are both production"],
    );
    check(
        "stamps = [\"weu-fabrikam\", \"weu-test\"]",
        "stamps = [\"eus-1\", \"weu-test\"]",
        &["eus-1 is in unitedstates", "only europe"],
    );
    let told = told("dedicated-to = \"fabrikam\"", "dedicated-to = \"contso\"");
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].contains("dedicated-to: no tenant is called contso"),
        "{}",
        told[0]
    );
    assert!(told[1].contains("tenants[fabrikam].stamps"), "{}", told[1]);
}

#[test]
fn a_hub_is_not_used_by_two_stamps() {
    let told = told(
        "namespace = \"contoso-weu-1",
        "namespace = \"contoso-weu-test",
    );
    assert!(
        told.iter()
            .any(|line| line.contains("stamps[weu-1].event-hub.hub")
                && line.contains("another stamp's hub")),
        "{told:#?}"
    );
}

#[test]
fn stamps_that_share_a_namespace_share_its_units() {
    let stamps = STAMPS
        .replacen("contoso-eus-2.servicebus", "contoso-eus-1.servicebus", 1)
        .replace("hub = \"telemetry\"\ntier = \"standard\"\nthroughput-units = 4\npartitions = 16\nconsumer-group = \"stampworks\"\n\n[stamps.capacity]\ndevices = { soft = 80000, hard = 100000 }\ntenants = 40\n", "hub = \"HUB\"\ntier = \"standard\"\nthroughput-units = 4\npartitions = 16\n\n[stamps.capacity]\ndevices = 100000\nbytes-per-second = \"3MB\"\ntenants = 40\n")
        .replacen("HUB", "first", 1);
    let found = read(&example(&stamps, TENANTS)).unwrap_err();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].key, "stamps[eus-2].capacity.bytes-per-second");
    assert!(
        found[0]
            .message
            .contains("6000000 together; its units take 4000000"),
        "{}",
        found[0]
    );
}

#[test]
fn a_dedicated_stamp_has_one_tenant() {
    let tenants = TENANTS.replacen(
        "[tenants.placement]\nrings = [\"early\"]",
        "stamps = [\"weu-fabrikam\"]",
        1,
    );
    let stamps = STAMPS.replacen("dedicated-to = \"fabrikam\"\n", "", 1);
    let found = read(&example(&stamps, &tenants)).unwrap_err();
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0].key, "tenants[northwind].stamps");
    assert!(found[0].message.contains("already has fabrikam"));
}

#[test]
fn a_tenant_is_not_pinned_to_a_stamp_that_serves_nothing() {
    for state in ["planned", "closed"] {
        let to = format!("id = \"weu-fabrikam\"\nstate = \"{state}\"");
        check(
            "id = \"weu-fabrikam\"",
            &to,
            &["tenants[fabrikam].stamps", state],
        );
    }
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    check(
        "ring = \"canary\"",
        "ring = \"early\"",
        &["warning", "ring canary"],
    );
    check(
        "rings = [\"early\"]",
        "rings = [\"canary\"]",
        &[
            "tenants.toml:50:1",
            "warning: tenants[northwind].placement",
            "no stamp fits",
        ],
    );
    check(
        "geographies = [\"europe\", \"unitedstates\"]",
        "geographies = [\"europe\", \"asia\"]",
        &["warning", "no stamp is in asia"],
    );
    let one = STAMPS
        .split("[[stamps]]")
        .take(2)
        .collect::<Vec<_>>()
        .join("[[stamps]]");
    let catalogue = read(&[Source {
        name: "fleet.toml",
        text: &one,
    }])
    .unwrap();
    assert_eq!(catalogue.warnings.len(), 1);
    assert!(
        catalogue.warnings[0]
            .to_string()
            .contains("fewer than two stamps")
    );
}

#[test]
fn every_mistake_is_told_in_one_pass() {
    let stamps = STAMPS
        .replacen("kind = \"shared\"", "kind = \"shard\"", 1)
        .replacen("ring = \"general\"", "ring = 3", 1)
        .replacen("\nunits = 4", "\nunits = 0", 1)
        .replacen("\nunits = 4", "\nunts = 1", 1);
    let tenants = TENANTS.replacen("geographies = [\"europe\"]", "geographies = []", 1);
    let found = read(&example(&stamps, &tenants)).unwrap_err();
    let keys: Vec<&str> = found.iter().map(|f| f.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "stamps[weu-test].kind",
            "stamps[weu-1].iot-hub.units",
            "stamps[weu-fabrikam].ring",
            "stamps[eus-1].iot-hub.units",
            "stamps[eus-1].iot-hub.unts",
            "tenants[fabrikam].geographies",
        ]
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_and_the_others_are_still_read() {
    let found = read(&example(
        "version = 1\n[[stamps]\nid = \n",
        &TENANTS.replacen("tier = \"trial\"", "teir = \"trial\"", 1),
    ))
    .unwrap_err();
    assert!(
        found.iter().any(|f| f.file == "stamps.toml" && f.line == 2),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|f| f.key == "tenants[northwind].teir"),
        "{found:#?}"
    );
}

#[test]
fn a_flood_of_problems_is_cut_and_counted() {
    let text = format!(
        "version = 1\n{}",
        (0..3_000)
            .map(|i| format!("x{i} = 1\n"))
            .collect::<String>()
    );
    let found = read(&[Source {
        name: "fleet.toml",
        text: &text,
    }])
    .unwrap_err();
    assert!(found.len() <= FINDINGS_MAX + 2);
    assert!(found.last().unwrap().message.contains("more problems"));
    assert_eq!(found[0].severity, Severity::Error);
}

proptest::proptest! {
    /// Whatever the text is, it is read or refused, and a refusal has an error.
    #[test]
    fn any_text_is_answered(cut in 0_usize..4_000, insert in "[ -~]{0,12}") {
        let mut at = cut.min(STAMPS.len());
        while !STAMPS.is_char_boundary(at) {
            at -= 1;
        }
        let text = format!("{}{insert}{}", &STAMPS[..at], &STAMPS[at..]);
        if let Err(found) = read(&[Source { name: "fleet.toml", text: &text }]) {
            proptest::prop_assert!(found.iter().any(|f| f.severity == Severity::Error));
        }
    }
}
