//! Where reading starts, and as whom, in the words of Event Hubs.

use fe2o3_amqp_types::definitions::Fields;
use fe2o3_amqp_types::messaging::FilterSet;
use fe2o3_amqp_types::primitives::{Symbol, Value};
use serde_amqp::described::Described;
use serde_amqp::descriptor::Descriptor;

use crate::StartPosition;

/// Key and descriptor of the filter that Event Hubs takes a position from.
pub(super) const SELECTOR: &str = "apache.org:selector-filter:string";
const SELECTOR_CODE: u64 = 0x0000_468C_0000_0004;

/// Link property that makes a reader the only one.
const OWNER_LEVEL: &str = "com.microsoft:epoch";

/// The filter of a receiving link that starts there.
pub(super) fn filter(start: StartPosition) -> FilterSet {
    [(Symbol::from(SELECTOR), selector(start))]
        .into_iter()
        .collect()
}

/// The position as a filter expression of Event Hubs.
fn selector(start: StartPosition) -> Value {
    let expression = match start {
        StartPosition::Earliest => "amqp.annotation.x-opt-offset > '-1'".to_owned(),
        StartPosition::Latest => "amqp.annotation.x-opt-offset > '@latest'".to_owned(),
        StartPosition::AfterSequence(sequence) => {
            format!("amqp.annotation.x-opt-sequence-number > '{sequence}'")
        }
        StartPosition::EnqueuedAt(at_us) => {
            let at_ms = at_us.div_euclid(1_000);
            format!("amqp.annotation.x-opt-enqueued-time >= '{at_ms}'")
        }
    };
    Value::Described(Box::new(Described {
        descriptor: Descriptor::Code(SELECTOR_CODE),
        value: Value::String(expression),
    }))
}

/// The properties of a receiving link with this level, if it has one.
pub(super) fn link_properties(owner_level: Option<i64>) -> Fields {
    owner_level
        .map(|level| (Symbol::from(OWNER_LEVEL), Value::Long(level)))
        .into_iter()
        .collect()
}
