//! What every event is worth, by how it was made and by what became of the hub since.

use std::collections::BTreeMap;

use crate::workload::TENANTS;

/// Partition and sequence number.
pub(crate) type Place = (i64, i64);

/// One row of `readings`: tenant, device, time, value, level.
pub(crate) type Row = (usize, String, i64, i64, Option<i64>);

/// What lies at a place, with the number of times it is there.
pub(crate) type Texts = BTreeMap<String, u64>;

/// A row of `gaps` that covers a place.
pub(crate) const GAP: &str = "gap";

/// A row of `quarantine` of an event that its reader found in no table and below its tenant's mark.
pub(crate) const BEHIND_MARK: &str = "quarantine behind_mark";

/// A row of `quarantine` of an event that found no room in its tenant's lane.
pub(crate) const BACKLOG: &str = "quarantine tenant_backlog";

/// A row of `quarantine` of an event over its tenant's quota.
pub(crate) const OVER_QUOTA: &str = "quarantine over_quota";

/// Where an event must end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Readings(Vec<Row>),
    Rejected(usize, &'static str),
    Quarantine(&'static str),
    /// A sequence number that never came.
    Gap,
}

impl End {
    pub(crate) fn texts(&self) -> Texts {
        let mut texts = Texts::new();
        let all = match self {
            Self::Readings(rows) => rows.iter().map(reading).collect(),
            Self::Rejected(tenant, reason) => {
                vec![format!("rejected {} {reason}", TENANTS[*tenant])]
            }
            Self::Quarantine(reason) => vec![format!("quarantine {reason}")],
            Self::Gap => vec![GAP.to_owned()],
        };
        for text in all {
            *texts.entry(text).or_default() += 1;
        }
        texts
    }

    fn tenant(&self) -> Option<usize> {
        match self {
            Self::Readings(rows) => rows.first().map(|row| row.0),
            Self::Rejected(tenant, _) => Some(*tenant),
            Self::Quarantine(_) | Self::Gap => None,
        }
    }
}

fn reading((tenant, device, ts, value, level): &Row) -> String {
    format!(
        "readings {} {device} {ts} {value} {level:?}",
        TENANTS[*tenant]
    )
}

#[derive(Default)]
pub(crate) struct Oracle {
    pub(crate) ends: BTreeMap<Place, End>,
    /// By partition: what is below was taken by the hub's retention.
    pub(crate) expired: BTreeMap<i64, i64>,
    /// A tenant's store was down for long, so events of it may be in quarantine instead.
    pub(crate) overflows: bool,
    /// The tenant that has a quota, so that events of it may be in quarantine instead.
    pub(crate) limited: Option<usize>,
    /// Two consumers ran at once, so that an event which overflowed for one of them may have been
    /// written by the other (docs/adr/0004).
    pub(crate) overlapped: bool,
    /// Lists lacked their newest entry, so that a start may have seen the newest `readings` and not the
    /// newest `rejected`.
    pub(crate) lists_behind: bool,
}

impl Oracle {
    pub(crate) fn last(&self, partition: i64) -> i64 {
        let of = self.ends.range((partition, 0)..(partition + 1, 0));
        of.map(|((_, sequence), _)| *sequence)
            .next_back()
            .unwrap_or(-1)
    }

    pub(crate) fn expire(&mut self, partition: i64, before: i64) {
        let first = self.expired.entry(partition).or_default();
        *first = before.max(*first);
    }

    /// Whether the hub took it away: it may be a gap, also when it was read before.
    pub(crate) fn is_expired(&self, (partition, sequence): Place) -> bool {
        let first = self.expired.get(&partition).copied();
        sequence < first.unwrap_or(0)
    }

    /// What is wrong with what lies at a place; `missing` says why nothing at all would be.
    pub(crate) fn judge(
        &self,
        place: Place,
        found: &Texts,
        missing: impl FnOnce() -> Option<String>,
    ) -> Option<String> {
        let Some(end) = self.ends.get(&place) else {
            return Some(format!("was never sent, and there is {found:?}"));
        };
        let mut rest = found.clone();
        let gaps = rest.remove(GAP).unwrap_or(0);
        let backlog = rest.remove(BACKLOG).unwrap_or(0);
        let over = rest.remove(OVER_QUOTA).unwrap_or(0);
        let behind = rest.remove(BEHIND_MARK).unwrap_or(0);
        let (never_came, expired) = (*end == End::Gap, self.is_expired(place));
        if gaps > u64::from(never_came || expired) {
            return Some(format!("a gap {gaps} times, expired: {expired}"));
        }
        if backlog > u64::from(self.overflows && end.tenant().is_some()) {
            return Some(format!("in quarantine for want of room {backlog} times"));
        }
        let limited = self.limited.is_some() && end.tenant() == self.limited;
        let missed = self.overlapped || self.lists_behind;
        if behind > u64::from(missed && end.tenant().is_some()) {
            return Some(format!("in quarantine behind a mark {behind} times"));
        }
        if over > u64::from(limited) || backlog + over + behind > 1 {
            return Some(format!(
                "in quarantine over quota {over}, for want of room {backlog}, behind a mark {behind}"
            ));
        }
        let wanted = if never_came {
            Texts::new()
        } else {
            end.texts()
        };
        for (text, &count) in &rest {
            let times = wanted.get(text).copied().unwrap_or(0);
            if count > times {
                return Some(format!(
                    "{count} times instead of {times}: {text}, beside {found:?}"
                ));
            }
        }
        if !rest.is_empty() && rest != wanted {
            return Some(format!("a part of it, {rest:?} of {wanted:?}"));
        }
        if !rest.is_empty() && backlog + over > 0 && !self.overlapped {
            return Some("in its table and in quarantine".into());
        }
        if rest.is_empty() && gaps + backlog + over + behind == 0 {
            return missing().map(|why| format!("0 times although {why}: {wanted:?}"));
        }
        None
    }
}
