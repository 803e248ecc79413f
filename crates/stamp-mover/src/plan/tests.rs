//! Who may go where.

use proptest::prelude::*;
use stamp_placement::catalogue::{Source, read};
use stamp_placement::{Axis, Load};

use super::*;

const TENANTS: &str = r#"
[[tenants]]
id = "contoso"
geographies = ["europe"]
tier = "gold"
schema = "contoso.toml"
devices = ["press-*", "gate-7"]
[[tenants]]
id = "fabrikam"
geographies = ["us", "europe"]
tier = "gold"
schema = "fabrikam.toml"
devices = ["press-x-*", "oven-*"]
"#;

fn stamp_text(id: &str, geography: &str, environment: &str, more: &str) -> String {
    format!(
        r#"
[[stamps]]
id = "{id}"
region = "r"
geography = "{geography}"
environment = "{environment}"
ring = "general"
version = "1"
storage-root = "file:///tables/{id}"
metrics = ["http://{id}.example/metrics"]
{more}
[stamps.iot-hub]
name = "{id}.azure-devices.net"
tier = "S1"
units = 2
[stamps.event-hub]
namespace = "{id}.servicebus.windows.net"
hub = "telemetry"
tier = "standard"
throughput-units = 1
partitions = 2
[stamps.capacity]
devices = 10
"#
    )
}

fn fleet() -> Fleet {
    let shared = "kind = \"shared\"";
    let own = "kind = \"dedicated\"\ndedicated-to = \"fabrikam\"";
    let tenants = "tenants = 5\n";
    let text = [
        "version = 1\n[fleet]\nimage = \"i\"\n".to_owned(),
        stamp_text("eu-test", "europe", "test", shared) + tenants,
        stamp_text("eu-1", "europe", "production", shared) + tenants,
        stamp_text("us-1", "us", "production", shared) + tenants,
        stamp_text("eu-own", "europe", "production", own),
        stamp_text(
            "eu-old",
            "europe",
            "production",
            "kind = \"shared\"\nstate = \"draining\"",
        ) + tenants,
        TENANTS.to_owned(),
    ]
    .concat();
    let source = Source {
        name: "fleet.toml",
        text: &text,
    };
    read(&[source])
        .unwrap_or_else(|found| panic!("{found:?}"))
        .fleet
}

fn stamp(text: &str) -> StampId {
    StampId::parse(text).unwrap()
}

fn wanted(ids: &[&str]) -> Vec<Wanted> {
    let wanted = |id: &&str| Wanted {
        device: DeviceId::parse((*id).into()).unwrap(),
        registration: None,
    };
    ids.iter().map(wanted).collect()
}

fn to(target: &str, ids: &[&str]) -> Result<Plan, Vec<String>> {
    let fleet = fleet();
    let usage = Usage::none(&fleet);
    let destination = Destination::Stamp(stamp(target));
    let planned = plan(
        &fleet,
        &usage,
        &stamp("eu-test"),
        &destination,
        &wanted(ids),
    );
    planned.map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn a_device_goes_to_the_stamp_that_is_named_and_its_tenant_is_the_longest_prefix() {
    let plan = to("eu-1", &["press-7", "press-x-1", "gate-7"]).unwrap();
    let tenants: Vec<&str> = plan
        .devices
        .iter()
        .map(|device| device.tenant.as_str())
        .collect();
    assert_eq!(tenants, ["contoso", "fabrikam", "contoso"]);
    assert_eq!(
        (plan.source.registry_per_minute, plan.targets.len()),
        (200, 1)
    );
    assert_eq!(plan.devices[0].registration, "press-7");
    // 18 operations at 160 a minute.
    assert_eq!(plan.minutes_at_least(0.8), 1);
}

#[test]
fn every_reason_against_a_move_is_told_at_once() {
    let problems = to("us-1", &["press-7", "oven-1", "lamp-1", "oven-1"]).unwrap_err();
    assert_eq!(
        problems,
        [
            "device lamp-1 belongs to no tenant of the fleet: see `devices` of the tenants",
            "device oven-1 is named twice",
            "device press-7 may not go to stamp us-1: data of tenant contoso may not be in us",
        ]
    );
    let own = to("eu-own", &["press-7"]).unwrap_err();
    assert!(own[0].contains("dedicated to fabrikam"), "{own:?}");
    assert_eq!(
        to("eu-old", &["press-7"]).unwrap_err(),
        ["stamp eu-old is draining: no device comes to it"]
    );
    assert_eq!(
        to("eu-9", &["press-7"]).unwrap_err(),
        ["eu-9 is no stamp of the fleet"]
    );
    assert!(to("eu-test", &["press-7"]).unwrap_err()[0].contains("is on stamp eu-test"));
    assert_eq!(to("eu-1", &[]).unwrap_err(), ["no device is named"]);
}

#[test]
fn a_registration_id_that_dps_cannot_have_is_refused_before_the_move() {
    let long = "r".repeat(129);
    for bad in ["", "press 7", "press/7", long.as_str()] {
        let mut wanted = wanted(&["press-7"]);
        wanted[0].registration = Some(bad.to_owned());
        let fleet = fleet();
        let destination = Destination::Stamp(stamp("eu-1"));
        let usage = Usage::none(&fleet);
        let planned = plan(&fleet, &usage, &stamp("eu-test"), &destination, &wanted);
        let problems = planned.unwrap_err();
        assert!(
            matches!(&problems[..], [PlanProblem::Registration { device, .. }] if device == "press-7"),
            "{problems:?}"
        );
    }
}

#[test]
fn a_stamp_takes_no_more_devices_than_its_hard_limit() {
    let fleet = fleet();
    let mut usage = Usage::none(&fleet);
    usage.set(&fleet, &stamp("eu-1"), Load::ZERO.with(Axis::Devices, 8));
    let ids = ["press-1", "press-2", "press-3"];
    let destination = Destination::Stamp(stamp("eu-1"));
    let planned = plan(
        &fleet,
        &usage,
        &stamp("eu-test"),
        &destination,
        &wanted(&ids),
    );
    assert_eq!(
        planned.unwrap_err(),
        [PlanProblem::NoRoom {
            stamp: stamp("eu-1"),
            more: 3,
            limit: 10,
            used: 8,
        }]
    );
}

proptest! {
    #[test]
    fn whoever_is_placed_is_where_its_tenant_may_be_and_with_its_tenants_others(
        numbers in prop::collection::btree_set(0_u32..40, 1..8), home in prop::option::of(Just("us-1")),
    ) {
        let fleet = fleet();
        let ids: Vec<String> = numbers.iter().map(|number| match number % 2 {
            0 => format!("press-{number}"),
            _ => format!("oven-{number}"),
        }).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let fabrikam = TenantId::parse("fabrikam").unwrap();
        let homes = home.map(|home| (fabrikam, stamp(home)));
        let destination = Destination::Place {
            environment: Environment::Production,
            homes: homes.into_iter().collect(),
        };
        let usage = Usage::none(&fleet);
        let planned = plan(&fleet, &usage, &stamp("eu-test"), &destination, &wanted(&ids)).unwrap();
        let mut stamps: BTreeMap<&TenantId, &StampId> = BTreeMap::new();
        for device in &planned.devices {
            let target = fleet.stamp(&device.target).unwrap();
            let tenant = fleet.tenant(&device.tenant).unwrap();
            prop_assert!(tenant.geographies.contains(&target.geography));
            prop_assert_eq!(target.environment, Environment::Production);
            let first = *stamps.entry(&device.tenant).or_insert(&device.target);
            prop_assert_eq!(first, &device.target, "a tenant is in one place");
        }
        if let (Some(home), Some(at)) = (home, stamps.get(&TenantId::parse("fabrikam").unwrap())) {
            prop_assert_eq!(at.as_str(), home);
        }
    }
}
