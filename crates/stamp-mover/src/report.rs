//! What a move has come to, device by device.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stamp_iothub::{DeviceRegistry, DeviceStatus, ProvisioningService};
use stamp_model::StampId;
use stamp_placement::device_move::{Due, MovePolicy, Stage};
use stamp_resilience::idempotent;
use tokio_util::sync::CancellationToken;

use crate::audit::{Audited, audit, registered};
use crate::journal::Moving;
use crate::mover::Mover;
use crate::sighting::{Seen, Sightings};
use crate::step::chain;

/// Stragglers whose registration is looked up. Each is a request to DPS.
const STRAGGLERS_ASKED_MAX: usize = 100;

/// Whether a move is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every device is moved or taken back, and as many are let in somewhere as before.
    Complete,
    /// Some are not.
    Differs,
}

/// Telemetry of a device in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Telemetry {
    /// When the hub took in the first, microseconds since 1970 UTC.
    pub first_us: i64,
    /// The last.
    pub last_us: i64,
    /// Rows in the stamp's table.
    pub rows: u64,
}

impl From<&Seen> for Telemetry {
    fn from(seen: &Seen) -> Self {
        Self {
            first_us: seen.first.enqueued_at_us,
            last_us: seen.last_us,
            rows: seen.rows,
        }
    }
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DeviceReport {
    /// Its id.
    pub device: String,
    /// Whose it is.
    pub tenant: String,
    /// The stamp that it goes to.
    pub target: StampId,
    /// How far it is.
    pub stage: Stage,
    /// Since when, microseconds since 1970 UTC.
    pub since_us: i64,
    /// It has not been seen at its target for too long.
    pub straggler: bool,
    /// A person has to look at it.
    pub person: bool,
    /// Why its last act was not done, or what is known of a straggler.
    pub why: Option<String>,
    /// Its status at the source, `absent` when it is not there; `None` when nobody asked.
    pub at_source: Option<String>,
    /// Its status at the target.
    pub at_target: Option<String>,
    /// Its telemetry in the source's tables.
    pub source: Option<Telemetry>,
    /// Its telemetry in the target's tables.
    pub telemetry: Option<Telemetry>,
}

/// A whole move.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Whether all is as it should be.
    pub verdict: Verdict,
    /// The stamp that the devices leave.
    pub from: StampId,
    /// When the move was planned, microseconds since 1970 UTC.
    pub began_us: i64,
    /// When this was written.
    pub reported_us: i64,
    /// Devices of the move.
    pub devices: u64,
    /// Of these, devices at their target only.
    pub moved: u64,
    /// Devices that are back at the source.
    pub taken_back: u64,
    /// Devices that are neither.
    pub under_way: u64,
    /// Devices that were let in at the source before; `None` when the hubs were not asked.
    pub before: Option<u64>,
    /// Devices that are let in at exactly one hub now.
    pub after: Option<u64>,
    /// Devices that are let in at both hubs. None, once every device has ended.
    pub in_both: Vec<String>,
    /// Devices that are let in nowhere and were before.
    pub nowhere: Vec<String>,
    /// Of these, devices that were taken back and that DPS makes at the source when they register:
    /// nothing is left to do but to ask again.
    pub returning: Vec<String>,
    /// Devices that have not been seen at their target for too long.
    pub stragglers: Vec<String>,
    /// Devices that a person has to look at.
    pub persons: Vec<String>,
    /// What could not be found out for this report.
    pub problems: Vec<String>,
    /// Each device, in the order of the plan.
    pub list: Vec<DeviceReport>,
}

/// What a report is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportOptions {
    /// Ask both hubs about every device.
    pub audit: bool,
    /// How far before the beginning of the move the source's tables are looked at, in microseconds;
    /// `None` leaves telemetry out.
    pub telemetry_before_us: Option<i64>,
}

impl<H, D, S> Mover<H, D, S>
where
    H: DeviceRegistry,
    D: ProvisioningService,
    S: Sightings,
{
    /// What the move has come to. Cancel safe: it only reads.
    pub async fn report(&self, options: ReportOptions, cancel: &CancellationToken) -> Report {
        let now_us = self.now_us();
        let (source, policy, began_us, moving) = {
            let journal = self.journal();
            let moving: Vec<Moving> = journal.devices().to_vec();
            (
                journal.source().clone(),
                *journal.policy(),
                journal.began_us(),
                moving,
            )
        };
        let mut list: Vec<DeviceReport> = moving
            .iter()
            .map(|moving| DeviceReport::of(moving, &policy, now_us))
            .collect();
        let mut problems = Vec::new();
        if let Some(before_us) = options.telemetry_before_us {
            let since = began_us.saturating_sub(before_us);
            problems = self
                .telemetry(&source, since, began_us, &mut list, cancel)
                .await;
        }
        self.stragglers(&moving, &mut list, cancel).await;
        let audited = match options.audit {
            true => {
                let devices = moving.iter().map(|moving| moving.planned.clone()).collect();
                Some(audit(&self.doors, &source, devices, cancel).await)
            }
            false => None,
        };
        sum_up(source, began_us, now_us, &moving, list, audited, problems)
    }

    /// Fills in what the tables have of each device, and says what they did not answer.
    async fn telemetry(
        &self,
        source: &StampId,
        source_since_us: i64,
        target_since_us: i64,
        list: &mut [DeviceReport],
        cancel: &CancellationToken,
    ) -> Vec<String> {
        let mut problems = Vec::new();
        let mut wanted: BTreeMap<StampId, BTreeMap<String, i64>> = BTreeMap::new();
        for device in list.iter() {
            for (stamp, since_us) in [(source, source_since_us), (&device.target, target_since_us)]
            {
                let of_stamp = wanted.entry(stamp.clone()).or_default();
                of_stamp.insert(device.device.clone(), since_us);
            }
        }
        let inner = self.doors.inner();
        for (stamp, devices) in wanted {
            let Some(peer) = inner.tables.get(&stamp) else {
                continue;
            };
            let op = |_| inner.sightings.look(&stamp, &devices);
            let seen = match peer.run(idempotent("tables.report"), cancel, op).await {
                Ok(seen) => seen,
                Err(gave_up) => {
                    problems.push(format!("tables of {stamp}: {}", chain(&gave_up)));
                    continue;
                }
            };
            for device in list.iter_mut() {
                let found = seen.get(&device.device).map(Telemetry::from);
                if stamp == *source {
                    device.source = found;
                } else if stamp == device.target {
                    device.telemetry = found;
                }
            }
        }
        problems
    }

    /// Says of stragglers what DPS knows.
    async fn stragglers(
        &self,
        moving: &[Moving],
        list: &mut [DeviceReport],
        cancel: &CancellationToken,
    ) {
        let late = moving
            .iter()
            .zip(list)
            .filter(|(_, device)| device.straggler);
        for (moving, device) in late.take(STRAGGLERS_ASKED_MAX) {
            device.why = Some(registered(&self.doors, &moving.planned, cancel).await);
        }
    }
}

impl DeviceReport {
    /// What the journal alone says of a device.
    pub(crate) fn of(moving: &Moving, policy: &MovePolicy, now_us: i64) -> Self {
        let due = moving.state.next(now_us, policy);
        Self {
            device: moving.planned.device.as_str().to_owned(),
            tenant: moving.planned.tenant.to_string(),
            target: moving.planned.target.clone(),
            stage: moving.state.stage(),
            since_us: moving.state.since_us(),
            straggler: matches!(due, Due::Telemetry { straggler: true }),
            person: matches!(due, Due::Person(_)),
            why: moving.why.clone(),
            at_source: None,
            at_target: None,
            source: None,
            telemetry: None,
        }
    }
}

fn sum_up(
    from: StampId,
    began_us: i64,
    reported_us: i64,
    moving: &[Moving],
    list: Vec<DeviceReport>,
    audited: Option<Vec<Audited>>,
    problems: Vec<String>,
) -> Report {
    let count = |stage: Stage| list.iter().filter(|device| device.stage == stage).count() as u64;
    let names = |of: fn(&DeviceReport) -> bool| {
        let chosen = list.iter().filter(|device| of(device));
        chosen.map(|device| device.device.clone()).collect()
    };
    let (moved, taken_back) = (count(Stage::Erased), count(Stage::RolledBack));
    let mut report = Report {
        verdict: Verdict::Complete,
        from,
        began_us,
        reported_us,
        devices: list.len() as u64,
        moved,
        taken_back,
        under_way: list.len() as u64 - moved - taken_back,
        before: None,
        after: None,
        in_both: Vec::new(),
        nowhere: Vec::new(),
        returning: Vec::new(),
        stragglers: names(|device| device.straggler),
        persons: names(|device| device.person),
        problems,
        list,
    };
    if let Some(audited) = audited {
        report.compare(moving, &audited);
    }
    // The sums alone could be equal because one is let in that was not, and another nowhere.
    let same =
        report.before == report.after && report.in_both.is_empty() && report.nowhere.is_empty();
    if report.under_way > 0 || !same || !report.problems.is_empty() {
        report.verdict = Verdict::Differs;
    }
    report
}

impl Report {
    /// Counts who was let in before against who is now.
    fn compare(&mut self, moving: &[Moving], audited: &[Audited]) {
        let (mut before, mut after) = (0, 0);
        for ((moving, audited), device) in moving.iter().zip(audited).zip(&mut self.list) {
            if let Some(problem) = &audited.problem {
                self.problems.push(format!("{}: {problem}", device.device));
                continue;
            }
            let text = |status: Option<DeviceStatus>| status.map_or("absent", DeviceStatus::as_str);
            device.at_source = Some(text(audited.source).to_owned());
            device.at_target = Some(text(audited.target).to_owned());
            let at = |status: Option<DeviceStatus>| status == Some(DeviceStatus::Enabled);
            let (at_source, at_target) = (at(audited.source), at(audited.target));
            // Nothing was done with a device of which nothing is kept.
            let was = moving
                .kept
                .as_ref()
                .map_or(at_source, |kept| kept.was_enabled);
            before += u64::from(was);
            after += u64::from(at_source != at_target);
            match (at_source, at_target) {
                (true, true) => self.in_both.push(device.device.clone()),
                (false, false) if was => {
                    self.nowhere.push(device.device.clone());
                    if device.stage == Stage::RolledBack && audited.source.is_none() {
                        self.returning.push(device.device.clone());
                    }
                }
                _ => {}
            }
        }
        (self.before, self.after) = (Some(before), Some(after));
    }

    /// How many devices are not as they should be, for an exit code: at least 1 when it differs.
    #[must_use]
    pub fn differences(&self) -> u64 {
        match self.verdict {
            Verdict::Complete => 0,
            Verdict::Differs => {
                let counts = [self.in_both.len(), self.nowhere.len(), self.problems.len()];
                let most = counts.into_iter().max().unwrap_or_default() as u64;
                most.max(self.under_way).max(1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stamp_model::{DeviceId, TenantId};

    use super::*;
    use crate::plan::PlannedDevice;

    /// A device that was moved, and whether it was let in before.
    fn moved(name: &str, was_enabled: bool) -> Moving {
        let state = json!({ "stage": "erased", "roll-back": false, "paused": false,
            "obstacle": null, "pointed-us": 1, "evidence": null, "since-us": 2 });
        let kept = json!({ "group": null, "enrollment": {}, "device": {}, "generation-id": "g",
            "was-enabled": was_enabled, "status-reason": null, "tags": {}, "desired": {},
            "reported": {} });
        Moving {
            planned: PlannedDevice {
                device: DeviceId::parse(name.into()).unwrap(),
                registration: name.to_owned(),
                tenant: TenantId::parse("contoso").unwrap(),
                target: StampId::parse("prod").unwrap(),
            },
            state: serde_json::from_value(state).unwrap(),
            kept: Some(serde_json::from_value(kept).unwrap()),
            why: None,
        }
    }

    #[test]
    fn a_device_that_is_let_in_nowhere_is_not_made_good_by_one_that_was_not_let_in_before() {
        let moving = [moved("lost", true), moved("found", false)];
        let policy = MovePolicy {
            keep_source_us: 1,
            straggler_after_us: 1,
        };
        let audited = vec![
            Audited::default(),
            Audited {
                target: Some(DeviceStatus::Enabled),
                ..Audited::default()
            },
        ];
        let list: Vec<DeviceReport> = moving
            .iter()
            .map(|one| DeviceReport::of(one, &policy, 3))
            .collect();
        let from = StampId::parse("test").unwrap();
        let report = sum_up(from, 0, 3, &moving, list, Some(audited), Vec::new());
        assert_eq!((report.before, report.after), (Some(1), Some(1)));
        assert_eq!(report.nowhere, ["lost"]);
        assert_eq!(report.verdict, Verdict::Differs);
    }
}
