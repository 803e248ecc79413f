//! What the source looked like before anything was changed.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use stamp_iothub::{Device, DeviceStatus, Enrollment, EnrollmentKind, Twin};

/// The enrolment, the identity and the twin of a device as they were, without keys. In the journal
/// for as long as the journal is: a person can put anything of it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Kept {
    /// The enrolment group that the device came by; `None` for an enrolment of its own.
    pub group: Option<String>,
    /// The enrolment's or the group's record.
    pub enrollment: Value,
    /// The identity at the source.
    pub device: Value,
    /// Its generation: another one is another device of the same name.
    pub generation_id: String,
    /// Whether it was enabled.
    pub was_enabled: bool,
    /// Why it had that status.
    pub status_reason: Option<String>,
    /// Tags.
    pub tags: Value,
    /// Desired properties.
    pub desired: Value,
    /// Reported properties.
    pub reported: Value,
}

impl Kept {
    pub(crate) fn new(enrollment: &Enrollment, device: &Device, twin: Twin) -> Self {
        let is_group = enrollment.kind == EnrollmentKind::Group;
        Self {
            group: is_group.then(|| enrollment.id.clone()),
            enrollment: enrollment.without_keys(),
            device: device.without_keys(),
            generation_id: device.generation_id.clone(),
            was_enabled: device.status == DeviceStatus::Enabled,
            status_reason: device.status_reason().map(str::to_owned),
            tags: twin.tags.into(),
            desired: twin.desired.into(),
            reported: twin.reported.into(),
        }
    }

    /// The status that the device had.
    #[must_use]
    pub fn status(&self) -> DeviceStatus {
        match self.was_enabled {
            true => DeviceStatus::Enabled,
            false => DeviceStatus::Disabled,
        }
    }

    /// How many bytes it has in the journal.
    pub(crate) fn bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(0, |json| json.len())
    }

    /// The hubs that the enrolment chose from.
    pub(crate) fn hubs(&self) -> Vec<String> {
        let kind = match self.group {
            Some(_) => EnrollmentKind::Group,
            None => EnrollmentKind::Individual,
        };
        let parsed = Enrollment::parse(kind, self.enrollment.clone());
        parsed.map_or_else(
            |_| Vec::new(),
            |enrollment| enrollment.hubs().into_iter().map(str::to_owned).collect(),
        )
    }
}
