//! What the emulator can send at most: a measurement over AMQP is worth nothing where that is the limit.

use std::thread;

use super::emulator::{Emulator, Fill, HUB};
use super::raw;
use super::results::Measured;
use super::usage::{Scope, Stopwatch};
use crate::exit::Failure;

/// Receives everything with a receiver that only counts, one thread a partition. The CPU time is the emulator's.
pub(super) fn measure(fill: Fill) -> Result<Measured, Failure> {
    let emulator = Emulator::start(fill)?;
    let (address, before_s) = (emulator.address.as_str(), emulator.cpu_s());
    let watch = Stopwatch::start(Scope::Process);
    let received = thread::scope(|scope| {
        let receivers: Vec<_> = (0..fill.partitions)
            .map(|number| {
                scope.spawn(move || raw::receive(address, HUB, number, fill.share(number)))
            })
            .collect();
        receivers
            .into_iter()
            .enumerate()
            .map(|(number, receiver)| {
                receiver
                    .join()
                    .map_err(|_panic| Failure::because("a receiver panicked"))?
                    .map_err(|cause| {
                        Failure::failed(format!("receiving from partition {number}"), cause)
                    })
            })
            .sum::<Result<u64, Failure>>()
    })?;
    let (wall_s, _) = watch.seconds();
    let cpu_s = emulator.cpu_s() - before_s;
    let name = format!(
        "emulator to a counting receiver, {}",
        partitions(fill.partitions)
    );
    Ok(Measured::new(name, received, (wall_s, cpu_s)))
}

pub(super) fn partitions(count: u32) -> String {
    match count {
        1 => "1 partition".to_owned(),
        count => format!("{count} partitions"),
    }
}
