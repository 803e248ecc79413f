//! A real process, killed at random moments on real storage, leaves every row exactly once.

use std::time::Duration;

use crate::support::{
    PROCESS_MAX, Service, assert_tables, emulator, expected_up_to, publish, read_tables,
    write_config,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use stamp_interop::{ACCOUNT_KEY, Azurite};
use stamp_lake::{Lake, StoreConfig};
use stamp_model::PartitionId;
use tokio::time::Instant;

const PARTITIONS: u32 = 2;
const KILLS: u64 = 20;
const KEY_VARIABLE: &str = "STAMPWORKS_TEST_ACCOUNT_KEY";

fn store(azurite: &Azurite) -> String {
    format!(
        "url = \"az://{}/stamp-kill/s-1\"\nendpoint = \"{}\"\naccount-key-env = \"{KEY_VARIABLE}\"",
        azurite.account_name(),
        azurite.endpoint()
    )
}

/// The key goes through a file here: this process has no such variable.
fn lake(azurite: &Azurite, folder: &std::path::Path) -> Lake {
    let key = folder.join("account-key");
    std::fs::write(&key, ACCOUNT_KEY).unwrap();
    let config = StoreConfig {
        endpoint: Some(azurite.endpoint()),
        account_key_file: Some(key),
        ..StoreConfig::new(format!("az://{}/stamp-kill/s-1", azurite.account_name()))
    };
    Lake::open(&config, tokio::runtime::Handle::current()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_at_random_moments_leave_every_row_exactly_once() {
    let azurite = Azurite::start();
    azurite.create_container("stamp-kill");
    let emulator = emulator(PARTITIONS).await;
    let hub = emulator.hub("telemetry").unwrap();
    let folder = tempfile::tempdir().unwrap();
    // Small flushes and short waits: as many commits, and so as many moments to die in, as can be.
    let more = "[consumer]\nflush-rows = 150\nflush-age = \"200ms\"\nbatch-wait-max = \"50ms\"\nbatch-events-max = 60\n\
                [resilience]\nstart-spread = \"1ms\"";
    let endpoint = format!("amqp://{}", emulator.address());
    let config = write_config(folder.path(), &endpoint, &store(&azurite), more);
    let environment = [(KEY_VARIABLE, ACCOUNT_KEY)];
    let mut random = StdRng::seed_from_u64(20);
    let mut sent = 0;

    for _ in 0..KILLS {
        let more = random.random_range(200..800);
        (sent..sent + more).for_each(|number| publish(&hub, number));
        sent += more;
        let mut service = Service::start(&config, &environment);
        service.wait_for("partition opens");
        service.watch(Duration::from_millis(random.random_range(0..1_500)));
        drop(service);
    }
    let mut service = Service::start(&config, &environment);
    service.wait_for("starting");
    let lake = lake(&azurite, folder.path());
    let checkpoints = lake.checkpoints(&namespace(&endpoint), "telemetry", "$default");
    let until = Instant::now() + PROCESS_MAX;
    for number in 0..PARTITIONS {
        let partition = PartitionId::new(number).unwrap();
        let last = hub.last_sequence(number);
        while checkpoints
            .read(partition)
            .await
            .unwrap()
            .is_none_or(|at| at.sequence < last)
        {
            service.watch(Duration::from_millis(50));
            assert!(
                Instant::now() < until,
                "partition {number} does not reach {last}"
            );
        }
    }
    let (status, log) = service.terminate();

    assert_eq!(status.code(), Some(0), "{log}");
    let last: Vec<i64> = (0..PARTITIONS)
        .map(|number| hub.last_sequence(number))
        .collect();
    assert_eq!(
        u64::try_from(last.iter().map(|last| last + 1).sum::<i64>()).unwrap(),
        sent
    );
    assert_tables(&read_tables(&lake).await, &expected_up_to(&last));
    emulator.stop().await;
}

/// As the service derives it from the endpoint.
fn namespace(endpoint: &str) -> String {
    let host = endpoint.trim_start_matches("amqp://");
    host.split(':').next().unwrap().to_owned()
}
