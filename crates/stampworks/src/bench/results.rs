//! What was measured, as a table for people and as JSON.

use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::output;

/// The measurement that the costs of all others are compared with.
pub(super) const FLOOR: &str = "copy and UTF-8 check (the floor)";

/// One measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) events: u64,
    pub(super) wall_s: f64,
    /// Of what is measured: our own process, or the emulator's where that is what is looked at.
    pub(super) cpu_s: f64,
    /// Of the emulator beside it, which competes for the same cores.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) emulator_cpu_s: Option<f64>,
    /// CPU of an event, in floors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) floors: Option<f64>,
    /// Largest resident set of the process that measured this and nothing else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peak_memory_bytes: Option<u64>,
}

impl Measured {
    pub(super) fn new(name: impl Into<String>, events: u64, (wall_s, cpu_s): (f64, f64)) -> Self {
        Self {
            name: name.into(),
            events,
            wall_s,
            cpu_s,
            emulator_cpu_s: None,
            floors: None,
            peak_memory_bytes: None,
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "event counts are far below 2^53"
    )]
    fn per_second(&self, seconds: f64) -> f64 {
        self.events as f64 / seconds.max(1e-9)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "event counts are far below 2^53"
    )]
    fn ns_per_event(&self, seconds: f64) -> f64 {
        seconds * 1e9 / self.events as f64
    }

    fn row(&self) -> String {
        let or_dash = |value: Option<f64>, digits| {
            value.map_or("-".to_owned(), |value| format!("{value:.digits$}"))
        };
        format!(
            "{:<48} {:>11.0} {:>14.0} {:>12.0} {:>8} {:>11} {:>8}",
            self.name,
            self.per_second(self.wall_s),
            self.per_second(self.cpu_s),
            self.ns_per_event(self.cpu_s),
            or_dash(self.floors, 1),
            or_dash(self.emulator_cpu_s.map(|cpu_s| self.ns_per_event(cpu_s)), 0),
            or_dash(self.peak_memory_bytes.map(mib), 0),
        )
    }
}

/// Sizes of an event on its way, in bytes, and how many rollup rows it makes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Sizes {
    pub(super) body_bytes_per_event: f64,
    pub(super) readings_bytes_per_event: f64,
    pub(super) rollup_bytes_per_event: f64,
    pub(super) rollup_rows_per_event: f64,
}

/// What one process measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct PartResults {
    pub(super) measured: Vec<Measured>,
    pub(super) sizes: Option<Sizes>,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Results {
    seed: u64,
    events: u64,
    measured: Vec<Measured>,
    #[serde(flatten)]
    sizes: Option<Sizes>,
    /// The largest of all processes that measured.
    peak_memory_bytes: u64,
}

impl Results {
    pub(super) fn of(seed: u64, events: u64, parts: Vec<PartResults>) -> Self {
        let mut results = Self {
            seed,
            events,
            measured: Vec::new(),
            sizes: None,
            peak_memory_bytes: 0,
        };
        for part in parts {
            results.measured.extend(part.measured);
            results.sizes = results.sizes.or(part.sizes);
        }
        let of_floor = |measured: &&Measured| measured.name == FLOOR;
        let floor = results.measured.iter().find(of_floor);
        let floor = floor.map(|floor| floor.ns_per_event(floor.cpu_s));
        for measured in &mut results.measured {
            measured.floors = floor.map(|floor| measured.ns_per_event(measured.cpu_s) / floor);
            let peak = measured.peak_memory_bytes.unwrap_or(0);
            results.peak_memory_bytes = results.peak_memory_bytes.max(peak);
        }
        results
    }

    pub(super) fn print_json(&self) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|cause| Failure::failed("cannot print the results", cause))?;
        output::line(&text);
        Ok(())
    }

    pub(super) fn print(&self) {
        output::line(&format!(
            "{:<48} {:>11} {:>14} {:>12} {:>8} {:>11} {:>8}",
            "measurement",
            "events/s",
            "per CPU second",
            "CPU ns/event",
            "floors",
            "emulator ns",
            "peak MiB"
        ));
        for measured in &self.measured {
            output::line(&measured.row());
        }
        if let Some(sizes) = &self.sizes {
            output::line(&format!(
                "\nbytes an event: body {:.0}, readings {:.1}, rollups {:.1}",
                sizes.body_bytes_per_event,
                sizes.readings_bytes_per_event,
                sizes.rollup_bytes_per_event
            ));
            output::line(&format!(
                "rollup rows an event: {:.2}",
                sizes.rollup_rows_per_event
            ));
        }
    }
}

fn mib(bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
    let bytes = bytes as f64;
    bytes / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_compared_with_the_floor_and_the_largest_process_counts() {
        let part = |name: &str, cpu_s, peak| PartResults {
            measured: vec![Measured {
                peak_memory_bytes: peak,
                ..Measured::new(name, 1_000, (1.0, cpu_s))
            }],
            sizes: None,
        };
        let parts = vec![
            part("a", 0.5, Some(70)),
            part(FLOOR, 0.01, None),
            part("b", 0.1, Some(90)),
        ];
        let results = Results::of(1, 1_000, parts);
        let floors: Vec<f64> = results
            .measured
            .iter()
            .map(|measured| measured.floors.unwrap().round())
            .collect();
        assert_eq!(floors, [50.0, 1.0, 10.0]);
        assert_eq!(results.peak_memory_bytes, 90);
    }
}
