//! Receives a hub that is filled, with the official Rust client, and prints how many events and bytes of bodies came.
//!
//! `official-client CONNECTION_STRING HUB PARTITIONS EVENTS [PREFETCH]`. One client a partition, as its documentation
//! asks for where partitions are read side by side; a plain connection to the address of the connection string.

use azure_messaging_eventhubs::{
    ConsumerClient, OpenReceiverOptions, RetryOptions, StartLocation, StartPosition,
};
use futures::StreamExt;

/// Events on their way. At the client's own 300 it waits for the kernel's delayed acknowledgements most of the time.
const PREFETCH: u32 = 2_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Default)]
struct Received {
    events: u64,
    body_bytes: u64,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let usage = "usage: official-client CONNECTION_STRING HUB PARTITIONS EVENTS [PREFETCH]";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [connection_string, hub, partitions, events, rest @ ..] = arguments.as_slice() else {
        return Err(usage.into());
    };
    let (partitions, events): (u64, u64) = (partitions.parse()?, events.parse()?);
    let prefetch = rest.first().map_or(Ok(PREFETCH), |text| text.parse())?;
    let mut readers = Vec::new();
    for partition in 0..partitions {
        let share = events / partitions + u64::from(partition < events % partitions);
        let (connection_string, hub) = (connection_string.clone(), hub.clone());
        readers.push(tokio::spawn(async move {
            receive(&connection_string, &hub, partition, share, prefetch).await
        }));
    }
    let mut all = Received::default();
    for reader in readers {
        let received = reader.await??;
        all.events += received.events;
        all.body_bytes += received.body_bytes;
    }
    println!("{{\"rows\": {}, \"body_bytes\": {}}}", all.events, all.body_bytes);
    Ok(())
}

async fn receive(
    connection_string: &str,
    hub: &str,
    partition: u64,
    events: u64,
    prefetch: u32,
) -> Result<Received, Failure> {
    let address = connection_string
        .split(';')
        .find_map(|part| part.strip_prefix("Endpoint=sb://"))
        .ok_or("the connection string has no Endpoint=sb://")?;
    let client = ConsumerClient::builder()
        .with_custom_endpoint(format!("amqp://{}", address.trim_end_matches('/')))
        .with_retry_options(RetryOptions {
            max_retries: 0,
            ..RetryOptions::default()
        })
        .open_with_connection_string(connection_string, Some(hub))
        .await?;
    let receiver = client
        .open_receiver_on_partition(
            partition.to_string(),
            Some(OpenReceiverOptions {
                prefetch: Some(prefetch),
                start_position: Some(StartPosition {
                    location: StartLocation::Earliest,
                    inclusive: false,
                }),
                ..OpenReceiverOptions::default()
            }),
        )
        .await?;
    let mut received = Received::default();
    let mut stream = std::pin::pin!(receiver.stream_events());
    while received.events < events {
        let event = stream.next().await.ok_or("the stream ended")??;
        let body = event.event_data().body().unwrap_or_default();
        received.events += 1;
        received.body_bytes += body.len() as u64;
    }
    // The process ends here: closing is no part of what is compared.
    Ok(received)
}
