//! A small fleet for tests.

use std::fmt::Write as _;

/// Production stamps in Europe with room for so many devices each, for two tenants: `contoso` with
/// devices `press-*`, and `fabrikam` with `oven-*`.
pub(crate) fn catalogue(stamps: &[(&str, u64)]) -> String {
    let mut text = "version = 1\n".to_owned();
    for (id, devices) in stamps {
        write!(
            text,
            r#"
[[stamps]]
id = "{id}"
region = "westeurope"
geography = "europe"
kind = "shared"
environment = "production"
ring = "general"
version = "0.1.0"
storage-root = "az://{id}/telemetry"
[stamps.iot-hub]
name = "{id}.azure-devices.net"
tier = "S3"
units = 1
[stamps.event-hub]
namespace = "{id}.servicebus.windows.net"
hub = "telemetry"
tier = "standard"
throughput-units = 4
partitions = 4
[stamps.capacity]
devices = {devices}
tenants = 20
"#
        )
        .unwrap();
    }
    for (id, devices) in [("contoso", "press-*"), ("fabrikam", "oven-*")] {
        write!(
            text,
            r#"
[[tenants]]
id = "{id}"
geographies = ["europe"]
tier = "standard"
schema = "schema.toml"
devices = ["{devices}"]
"#
        )
        .unwrap();
    }
    text
}
