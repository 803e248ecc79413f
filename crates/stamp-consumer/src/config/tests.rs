use super::*;

/// The fenced TOML of docs/configuration.md.
fn documented() -> &'static str {
    let text = include_str!("../../../../docs/configuration.md");
    let (_, after) = text.split_once("```toml\n").unwrap();
    after.split_once("```").unwrap().0
}

fn parse(text: &str) -> Result<ConsumerConfig, ConfigError> {
    ConsumerConfig::parse(text, Path::new("stamp.toml"))
}

#[test]
fn the_documented_configuration_is_a_good_one() {
    let config = parse(documented()).unwrap();
    config.check().unwrap();
    assert_eq!(config.tenants.len(), 2);
}

#[test]
fn the_documented_values_are_the_defaults_where_it_says_nothing_else() {
    let documented = parse(documented()).unwrap().consumer;
    assert_eq!(documented.ownership, Some(OwnershipConfig::default()));
    let defaults = ReadConfig {
        hub_retention: documented.hub_retention,
        ownership: documented.ownership.clone(),
        ..ReadConfig::default()
    };
    assert_eq!(format!("{documented:?}"), format!("{defaults:?}"));
}

#[test]
fn what_is_printed_is_the_configuration_in_force_to_the_byte() {
    let text = documented().replace("\"256MiB\"", "\"300000001B\"");
    let text = text.replace("flush-bytes = \"8MiB\"", "flush-bytes = \"1.3MiB\"");
    let config = parse(&text).unwrap();

    let again = parse(&toml::to_string(&config).unwrap()).unwrap();

    assert_eq!(again.consumer.buffer_max.as_u64(), 300_000_001);
    assert_eq!(format!("{again:?}"), format!("{config:?}"));
}

/// Checks that a changed configuration is refused with all of `words`.
#[track_caller]
fn check_refused(from: &str, to: &str, words: &[&str]) {
    assert!(
        documented().contains(from),
        "{from:?} is not in the example"
    );
    let text = documented().replacen(from, to, 1);
    let error = parse(&text).and_then(|config| config.check()).unwrap_err();
    let text = crate::chain(&error).to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn a_value_out_of_range_or_in_contradiction_is_refused_by_its_key() {
    check_refused(
        "buffer-max = \"256MiB\"",
        "buffer-max = \"1MiB\"",
        &["consumer.buffer-max"],
    );
    check_refused(
        "flush-age = \"60s\"",
        "flush-age = \"1ms\"",
        &["consumer.flush-age"],
    );
    check_refused(
        "flush-age = \"60s\"",
        "flush-age = 60",
        &["flush-age", "line 24"],
    );
    for level in ["-2", "9223372036854775807"] {
        let to = format!("owner-level = {level}");
        check_refused("owner-level = 0", &to, &["consumer.owner-level", level]);
    }
    check_refused("window = \"1m\"", "window = \"7s\"", &["rollup.window"]);
    check_refused(
        "window = \"1m\"",
        "window = \"1500ms\"",
        &["rollup.window", "whole seconds"],
    );
    check_refused(
        "id = \"fabrikam\"",
        "id = \"contoso\"",
        &["tenants.id", "contoso"],
    );
    check_refused(
        "id = \"fabrikam\"",
        "id = \"Fabrikam\"",
        &["Fabrikam", "a-z"],
    );
    check_refused(
        "# enrichment = \"hub-tenant\"",
        "enrichment = \"Tenant\"",
        &["tenancy.enrichment"],
    );
    check_refused(
        "# partitions = [0, 1]",
        "partitions = []",
        &["consumer.partitions"],
    );
    check_refused(
        "# partitions = [0, 1]",
        "partitions = [0, 1]",
        &["consumer.partitions", "consumer.ownership"],
    );
    check_refused(
        "expire-after = \"60s\"",
        "expire-after = \"19s\"",
        &[
            "consumer.ownership.expire-after",
            "19s",
            "renew-every (10s)",
        ],
    );
    check_refused(
        "renew-every = \"10s\"",
        "renew-every = \"31s\"",
        &["consumer.ownership.expire-after", "renew-every (31s)"],
    );
    check_refused(
        "renew-every = \"10s\"",
        "renew-every = \"999ms\"",
        &["consumer.ownership.renew-every"],
    );
    check_refused(
        "# owner-id = \"eu-1-0\"",
        "owner-id = \"eu 1\"",
        &["consumer.ownership.owner-id", "eu 1"],
    );
    check_refused("renew-every", "renew-evry", &["renew-evry"]);
    check_refused(
        "events-per-second = 2000",
        "events-per-second = 0",
        &["tenants.quota.events-per-second of contoso", "1 to 1000000"],
    );
    check_refused(
        "bytes-per-second = \"1MiB\"",
        "bytes-per-second = \"1023B\"",
        &["tenants.quota.bytes-per-second of contoso", "is 1023"],
    );
    check_refused(
        "devices-max = 50000",
        "devices-max = 3000000",
        &["tenants.quota.devices-max of contoso"],
    );
    check_refused("devices-max =", "devices =", &["devices"]);
    check_refused(
        "url = \"az://contosoeu1/telemetry\"",
        "url = \"file:///data\"",
        &["consumer.ownership", "one process only"],
    );
    check_refused(
        "attempts-max = 5",
        "attempts-max = 0",
        &["resilience.store", "attempts-max"],
    );
}

#[test]
fn the_pulls_of_all_partitions_leave_most_of_the_memory_to_rows() {
    let mut config = ReadConfig {
        buffer_max: ByteSize::mib(16),
        ..ReadConfig::default()
    };
    for (partitions, kib) in [(1, 1_024), (2, 1_024), (8, 256), (32, 64), (1_024, 64)] {
        assert_eq!(config.pull_bytes(partitions), kib << 10, "{partitions}");
    }
    config.batch_bytes_max = ByteSize::kib(128);
    assert_eq!(config.pull_bytes(2), 128 << 10);
}
