//! Runs a namespace with one hub, `telemetry`, until its standard input ends, and prints the
//! connection string: `cargo run -p stamp-emulator --example namespace`.

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};

use stamp_emulator::{EmulatorConfig, EventHubsEmulator};

#[tokio::main]
#[expect(
    clippy::print_stdout,
    reason = "the connection string is what the example is for"
)]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let emulator = EventHubsEmulator::start(EmulatorConfig {
        listen,
        ..EmulatorConfig::default()
    })
    .await?;
    println!("{}", emulator.connection_string("telemetry"));
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()))
        .await??;
    emulator.stop().await;
    Ok(())
}
