//! What the devices say of themselves, line by line.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::process::Lines;
use crate::exit::Failure;

/// A line of the script.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default)]
    device: String,
    step: String,
    #[serde(default)]
    hub: Option<String>,
    #[serde(default)]
    n: u64,
    #[serde(default)]
    error: String,
}

/// One device as it knows itself.
#[derive(Debug, Default, Clone)]
pub(super) struct Known {
    /// The hub that DPS told it last.
    pub(super) hub: String,
    /// Readings that a hub has confirmed, from number 0.
    pub(super) sent: u64,
    /// Of them, since it registered last.
    pub(super) sent_here: u64,
    /// How often DPS told it a hub.
    pub(super) registered: u64,
    /// What the hubs said when they refused it or its connection ended.
    pub(super) refusals: Vec<String>,
}

/// Most refusals that are kept of a device.
const REFUSALS_MAX: usize = 20;

/// The devices' ledger.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) devices: BTreeMap<String, Known>,
    ended: bool,
}

impl Ledger {
    /// Reads what the devices say until `enough`, which takes at most `time`; `check` says now and then
    /// whether everything still runs.
    pub(super) fn follow(
        &mut self,
        lines: &Lines,
        (what, time): (&str, Duration),
        mut check: impl FnMut() -> Result<(), Failure>,
        enough: impl Fn(&Self) -> bool,
    ) -> Result<(), Failure> {
        const CHECK_EVERY: Duration = Duration::from_secs(1);
        let until = Instant::now() + time;
        while !enough(self) {
            check()?;
            if let Some(line) = lines.next(Instant::now() + CHECK_EVERY) {
                self.note(&line)?;
            } else if Instant::now() > until {
                return Err(Failure::because(format!(
                    "{what} did not come within {time:?}: {}",
                    self.said()
                )));
            }
        }
        Ok(())
    }

    /// Reads the rest, once the script was told to end.
    pub(super) fn finish(&mut self, lines: &Lines, time: Duration) -> Result<(), Failure> {
        for line in lines.rest(time) {
            self.note(&line)?;
        }
        match self.ended {
            true => Ok(()),
            false => Err(Failure::because("the devices did not end")),
        }
    }

    fn note(&mut self, line: &str) -> Result<(), Failure> {
        let said: Line = serde_json::from_str(line)
            .map_err(|cause| Failure::failed(format!("the devices said {line:?}"), cause))?;
        if said.step == "ended" {
            self.ended = true;
            return Ok(());
        }
        let known = self.devices.entry(said.device).or_default();
        match said.step.as_str() {
            "registered" => {
                known.hub = said.hub.unwrap_or_default();
                known.registered += 1;
                known.sent_here = 0;
            }
            "sent" => {
                if said.n != known.sent {
                    let expected = known.sent;
                    return Err(Failure::because(format!(
                        "a device counts wrong: {line} after {expected}"
                    )));
                }
                known.sent += 1;
                known.sent_here += 1;
            }
            "connected" => {}
            step => {
                if known.refusals.len() < REFUSALS_MAX {
                    let hub = said.hub.unwrap_or_else(|| "DPS".to_owned());
                    known
                        .refusals
                        .push(format!("{step} at {hub}: {}", said.error));
                }
            }
        }
        Ok(())
    }

    /// Where every device is, for an error.
    fn said(&self) -> String {
        let all = self.devices.iter().map(|(id, known)| {
            let last = known.refusals.last().map_or("", String::as_str);
            format!("{id} at {:?}, {} sent, {last}", known.hub, known.sent)
        });
        all.collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_skips_or_repeats_a_confirmed_number_is_told() {
        let mut ledger = Ledger::default();
        let line = |n: u64| format!(r#"{{"device":"d","step":"sent","hub":"h","n":{n}}}"#);
        ledger.note(&line(0)).unwrap();
        ledger.note(&line(1)).unwrap();
        for wrong in [1, 3] {
            let error = ledger.note(&line(wrong)).unwrap_err().to_string();
            assert!(error.contains("counts wrong"), "{error}");
        }
        assert_eq!(ledger.devices["d"].sent, 2);
    }

    #[test]
    fn what_is_no_line_of_the_script_is_shown() {
        let error = Ledger::default().note("Traceback").unwrap_err();
        assert!(error.to_string().contains("Traceback"), "{error}");
    }
}
