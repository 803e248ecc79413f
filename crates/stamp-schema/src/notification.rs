//! Messages that the hub itself wrote: twin changes, life cycle, connection state.

use stamp_model::{Event, MessageSource};

use crate::rejection::{Rejection, RejectionCode, cut};

/// Properties by which IoT Hub says what happened and to whom (non-telemetry event schema).
const TOLD: [&str; 5] = [
    "opType",
    "deviceId",
    "moduleId",
    "hubName",
    "operationTimestamp",
];

/// The row that a notification becomes in `rejected`, so that it is counted and not lost; `None`
/// for telemetry and for a source that this version does not know, which belongs in quarantine.
#[must_use]
pub fn notification(event: &Event) -> Option<Rejection> {
    match event.hub.source {
        MessageSource::Absent | MessageSource::Telemetry | MessageSource::Unknown(_) => None,
        _ => Some(not_telemetry(event)),
    }
}

#[cold]
pub(crate) fn not_telemetry(event: &Event) -> Rejection {
    let mut detail = event.hub.source.label().to_owned();
    for name in TOLD {
        // IoT Hub compares property names without regard to case.
        let told = event
            .properties
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        if let Some((_, value)) = told {
            detail.push_str(&format!(", {name} {}", cut(value)));
        }
    }
    Rejection {
        code: RejectionCode::NotTelemetry,
        detail,
        rule: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_says_what_happened_to_whom() {
        let mut event = Event::default();
        assert_eq!(notification(&event), None);
        event.hub.source = MessageSource::DeviceLifecycle;
        event.properties = vec![
            ("OPTYPE".into(), "createDeviceIdentity".into()),
            ("deviceId".into(), "press-7".into()),
        ];
        let rejection = notification(&event).unwrap();
        assert_eq!(rejection.code, RejectionCode::NotTelemetry);
        assert_eq!(
            rejection.detail,
            "device_lifecycle, opType createDeviceIdentity, deviceId press-7"
        );
        event.hub.source = MessageSource::Unknown("new".into());
        assert_eq!(notification(&event), None);
    }
}
