//! Hubs, DPS, a device, an operator and a network that loses and delays, as one step relation.

use crate::device_move::*;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Source,
    Target,
}

/// A device's record in a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Record {
    Absent,
    Disabled,
    Enabled,
}

/// The hub that the device believes is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum At {
    Source,
    Target,
    /// Rejected there, and not registered again yet.
    Nowhere,
}

/// Requests of dead or timed-out attempts that may still land, as bits: on the enrolment towards
/// source and target, on the source's record disabling, enabling, erasing, on the target's disabling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Late(u8);

const ENROLMENT: u8 = 0b00_0011;
const SOURCE: u8 = 0b01_1100;
const TARGET: u8 = 0b10_0000;

impl Late {
    fn bit(act: Act) -> u8 {
        match act {
            Act::RecordSource => 0,
            Act::RestoreEnrolment => 0b00_0001,
            Act::PointEnrolment => 0b00_0010,
            Act::DisableSource => 0b00_0100,
            Act::EnableSource => 0b00_1000,
            Act::EraseSource => 0b01_0000,
            Act::DisableTarget => TARGET,
        }
    }

    pub(super) fn points_to(self, side: Side) -> bool {
        let act = match side {
            Side::Source => Act::RestoreEnrolment,
            Side::Target => Act::PointEnrolment,
        };
        self.0 & Self::bit(act) != 0
    }

    pub(super) fn disables_source(self) -> bool {
        self.0 & Self::bit(Act::DisableSource) != 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) enrolment: Side,
    pub(super) source: Record,
    pub(super) target: Record,
    pub(super) device: At,
    /// The target's stamp has telemetry of this life of the device.
    pub(super) telemetry: bool,
    pub(super) late: Late,
    /// The source's record was erased by the mover before there was telemetry.
    pub(super) erased_unseen: bool,
}

/// What is saved of the mover, and the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Node {
    pub(super) mover: DeviceMove,
    pub(super) world: World,
}

impl Node {
    pub(super) const START: Self = Self {
        mover: DeviceMove::planned(0),
        world: World {
            enrolment: Side::Source,
            source: Record::Enabled,
            target: Record::Absent,
            device: At::Source,
            telemetry: false,
            late: Late(0),
            erased_unseen: false,
        },
    };

    fn with(self, world: World) -> Self {
        Self { world, ..self }
    }
}

/// Everything that can happen next.
pub(super) fn steps(node: &Node, policy: &MovePolicy) -> Vec<Node> {
    let mut after = Vec::new();
    act(node, policy, &mut after);
    operator(node, &mut after);
    device(node, &mut after);
    land(node, &mut after);
    if node.world.telemetry {
        let evidence = Evidence {
            enqueued_at_us: 0,
            partition: 0,
            sequence: 0,
        };
        let told = node.mover.on(Event::Telemetry(evidence), 0);
        after.extend(told.map(|mover| Node { mover, ..*node }));
    }
    after
}

/// The mover begins an act, or tries it: done and told, done and not told (a lost reply, or a crash
/// before the outcome was saved), still on its way, not done, refused.
fn act(node: &Node, policy: &MovePolicy, after: &mut Vec<Node>) {
    let act = match node.mover.next(0, policy) {
        Due::Begin(_) => {
            let mover = node.mover.begin(0, policy).unwrap();
            after.push(Node { mover, ..*node });
            return;
        }
        Due::Do(act) => act,
        _ => return,
    };
    let (landed, outcome) = node.world.apply(act);
    let mut late = node.world;
    if outcome == Outcome::Done {
        late.late.0 |= Late::bit(act);
    }
    let refused = Outcome::Refused(Obstacle::Denied);
    for (world, outcome) in [
        (landed, outcome),
        (landed, Outcome::Unknown),
        (late, Outcome::Unknown),
        (node.world, Outcome::NotDone),
        (node.world, refused),
    ] {
        let mover = node.mover.on(Event::Acted(outcome), 0).unwrap();
        after.push(Node { mover, world });
    }
    // A crash: the world has changed, the saved state has not.
    after.push(node.with(landed));
    after.push(node.with(late));
}

fn operator(node: &Node, after: &mut Vec<Node>) {
    for event in [Event::Pause, Event::Continue, Event::RollBack] {
        let mover = node.mover.on(event, 0);
        after.extend(mover.map(|mover| Node { mover, ..*node }));
    }
}

/// A late request lands, if nothing has changed its record since: it carries an entity tag.
fn land(node: &Node, after: &mut Vec<Node>) {
    for act in Act::ALL {
        if node.world.late.0 & Late::bit(act) != 0 {
            after.push(node.with(node.world.apply(act).0));
        }
    }
}

fn device(node: &Node, after: &mut Vec<Node>) {
    let world = node.world;
    let record = match world.device {
        At::Source => world.source,
        At::Target => world.target,
        At::Nowhere => Record::Absent,
    };
    if record == Record::Enabled {
        let telemetry = world.telemetry || world.device == At::Target;
        after.push(node.with(World { telemetry, ..world }));
    } else {
        after.push(node.with(World {
            device: At::Nowhere,
            ..world
        }));
    }
    // It registers, rejected or started anew. DPS makes it in the enrolment's hub, and by its policy
    // removes it from the hub that it leaves.
    let mut keeps = world;
    match world.enrolment {
        Side::Source => keeps.device = At::Source,
        Side::Target => keeps.device = At::Target,
    }
    match world.enrolment {
        Side::Source if world.source == Record::Absent => keeps.set_source(Record::Enabled),
        Side::Target if world.target == Record::Absent => keeps.set_target(Record::Enabled),
        _ => {}
    }
    after.push(node.with(keeps));
    let mut removes = keeps;
    match world.enrolment {
        Side::Source if world.device == At::Target => removes.set_target(Record::Absent),
        Side::Target if world.device == At::Source => removes.set_source(Record::Absent),
        _ => {}
    }
    after.push(node.with(removes));
}

impl World {
    /// Any write makes the requests void that carry the entity tag of before.
    fn set_source(&mut self, record: Record) {
        self.source = record;
        self.late.0 &= !SOURCE;
    }

    fn set_target(&mut self, record: Record) {
        self.target = record;
        self.late.0 &= !TARGET;
    }

    fn set_enrolment(&mut self, side: Side) {
        self.enrolment = side;
        self.late.0 &= !ENROLMENT;
    }

    /// What an act does, and what it answers.
    fn apply(mut self, act: Act) -> (Self, Outcome) {
        let (source, target) = (self.source, self.target);
        match act {
            Act::RecordSource if source == Record::Absent => return (self, Outcome::Absent),
            Act::RecordSource => {}
            Act::PointEnrolment => self.set_enrolment(Side::Target),
            Act::RestoreEnrolment => self.set_enrolment(Side::Source),
            Act::DisableSource | Act::EraseSource | Act::EnableSource
                if source == Record::Absent =>
            {
                return (self, Outcome::Absent);
            }
            Act::DisableSource => self.set_source(Record::Disabled),
            Act::EnableSource => self.set_source(Record::Enabled),
            Act::EraseSource => {
                self.erased_unseen |= !self.telemetry;
                self.set_source(Record::Absent);
            }
            Act::DisableTarget if target == Record::Absent => return (self, Outcome::Absent),
            Act::DisableTarget => self.set_target(Record::Disabled),
        }
        (self, Outcome::Done)
    }
}
