//! Label values from an open set: capped, so that a scrape stays small whatever the input.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use stamp_model::{TenantId, Text};

/// Tenants with a label of their own, the first ones a process sees. Some fifty series a tenant:
/// this keeps a scrape below ten thousand lines.
pub const TENANT_LABELS_MAX: usize = 100;

/// What values past the cap share.
const OTHER: &str = "other";
/// In place of a tenant where none is known.
const NONE: &str = "none";

/// The first values that were seen, up to a cap.
#[derive(Debug)]
pub(crate) struct CappedLabels {
    max: usize,
    seen: RwLock<BTreeSet<Text>>,
}

impl CappedLabels {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max,
            seen: RwLock::default(),
        }
    }

    /// The label for a value, and whether this is the first time it is asked for.
    pub(crate) fn label(&self, value: &str) -> (Text, bool) {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = seen.get(value) {
            return (known.clone(), false);
        }
        drop(seen);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let label = if seen.len() < self.max {
            Text::from(value)
        } else {
            Text::from_static(OTHER)
        };
        // `other` itself is one more entry, the last one.
        let is_new = seen.insert(label.clone());
        (label, is_new)
    }
}

/// The tenant label: the id, `other` past the cap, `none` where no tenant is known.
#[derive(Debug)]
pub(crate) struct TenantLabels(CappedLabels);

impl TenantLabels {
    pub(crate) fn new() -> Self {
        Self(CappedLabels::new(TENANT_LABELS_MAX))
    }

    /// A tenant that is itself called `none` counts under `other`, so that `none` means what it
    /// says.
    pub(crate) fn label(&self, tenant: Option<&TenantId>) -> Text {
        match tenant.map(TenantId::as_str) {
            None => Text::from_static(NONE),
            Some(NONE) => Text::from_static(OTHER),
            Some(id) => self.0.label(id).0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(id: &str) -> TenantId {
        TenantId::parse(id).unwrap()
    }

    #[test]
    fn tenants_past_the_cap_share_one_label() {
        let labels = TenantLabels::new();
        for number in 0..TENANT_LABELS_MAX {
            let id = format!("t{number}");
            assert_eq!(labels.label(Some(&tenant(&id))), id.as_str());
        }

        assert_eq!(labels.label(Some(&tenant("one-more"))), OTHER);
        assert_eq!(labels.label(Some(&tenant("and-another"))), OTHER);
        assert_eq!(labels.label(Some(&tenant("t7"))), "t7");
    }

    #[test]
    fn no_tenant_is_told_apart_from_a_tenant_called_none() {
        let labels = TenantLabels::new();

        assert_eq!(labels.label(None), NONE);
        assert_eq!(labels.label(Some(&tenant("none"))), OTHER);
    }

    #[test]
    fn a_value_is_new_once_and_the_shared_label_too() {
        let labels = CappedLabels::new(1);

        assert_eq!(labels.label("hub"), ("hub".into(), true));
        assert_eq!(labels.label("hub"), ("hub".into(), false));
        assert_eq!(labels.label("store"), (OTHER.into(), true));
        assert_eq!(labels.label("third"), (OTHER.into(), false));
    }
}
