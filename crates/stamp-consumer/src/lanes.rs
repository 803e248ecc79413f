//! The lanes of one partition, found by number: every event comes by here.

use crate::buffer::Lane;
use crate::worker::LaneId;

/// A place for each tenant and, last, one for the stamp; empty until something is put there.
#[derive(Debug)]
pub(crate) struct Lanes {
    places: Vec<Option<Box<Lane>>>,
}

impl Lanes {
    /// No lanes, with places for as many tenants.
    pub(crate) fn new(tenants: usize) -> Self {
        Self {
            places: std::iter::repeat_with(|| None).take(tenants + 1).collect(),
        }
    }

    fn place(&self, id: LaneId) -> usize {
        match id {
            LaneId::Tenant(tenant) => tenant,
            LaneId::Stamp => self.places.len() - 1,
        }
    }

    fn id(&self, place: usize) -> LaneId {
        if place + 1 == self.places.len() {
            LaneId::Stamp
        } else {
            LaneId::Tenant(place)
        }
    }

    pub(crate) fn get(&self, id: LaneId) -> Option<&Lane> {
        self.places[self.place(id)].as_deref()
    }

    pub(crate) fn get_mut(&mut self, id: LaneId) -> Option<&mut Lane> {
        let place = self.place(id);
        self.places[place].as_deref_mut()
    }

    /// The lane, made when there is none.
    pub(crate) fn at(&mut self, id: LaneId) -> &mut Lane {
        let place = self.place(id);
        self.places[place].get_or_insert_default()
    }

    /// In order: tenants, then the stamp's own.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        let places = self.places.iter().enumerate();
        places.filter_map(|(place, lane)| Some((self.id(place), lane.as_deref()?)))
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Lane> {
        self.places.iter().filter_map(Option::as_deref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stamp_s_lane_is_nobody_s_and_comes_last() {
        let mut lanes = Lanes::new(2);
        lanes.at(LaneId::Stamp).behind = 7;
        lanes.at(LaneId::Tenant(1)).behind = 5;

        let found: Vec<_> = lanes.iter().map(|(id, lane)| (id, lane.behind)).collect();
        assert_eq!(found, [(LaneId::Tenant(1), 5), (LaneId::Stamp, 7)]);
        assert!(lanes.get(LaneId::Tenant(0)).is_none());
        assert_eq!(lanes.values().count(), 2);
    }
}
