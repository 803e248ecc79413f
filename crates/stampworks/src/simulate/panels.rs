//! The diagrams of the picture.

use stamp_placement::sku::DPS_PER_MINUTE;

use super::growth::Month;
use super::plot::{Line, Panel};
use super::strategy::Strategy;
use super::world::World;

/// The series of one strategy.
pub(super) fn line(strategy: Strategy, series: &[u32], step: f64) -> Line {
    Line {
        name: strategy.name().to_owned(),
        values: series.iter().map(|&count| f64::from(count)).collect(),
        step,
    }
}

/// One hub through the outage.
pub(super) fn outage_panel(world: &World, limit_per_second: u64, lines: Vec<Line>) -> Panel {
    let devices = world
        .stamps
        .first()
        .map_or(0, |stamp| world.devices_on(&stamp.id));
    Panel {
        title: format!("Outage of a hub with {devices} devices"),
        x_label: "minutes since the outage began".into(),
        y_label: "attempts to connect a second".into(),
        logarithmic: true,
        lines,
        limit: Some(("limit of the hub".into(), limit_per_second as f64)),
    }
}

/// One DPS through the move.
pub(super) fn region_panel(lines: Vec<Line>) -> Panel {
    Panel {
        title: "Move of a stamp's devices".into(),
        x_label: "hours since the move began".into(),
        y_label: "registrations asked of DPS a minute".into(),
        logarithmic: true,
        lines,
        limit: Some(("limit of DPS".into(), DPS_PER_MINUTE as f64)),
    }
}

/// The fill of the stamps over the year.
pub(super) fn growth_panel(months: &[Month]) -> Panel {
    let fill = |name: &str, of: fn(&Month) -> f64| Line {
        name: name.to_owned(),
        values: months.iter().map(|month| of(month) * 100.0).collect(),
        step: 1.0,
    };
    Panel {
        title: "A year of growth".into(),
        x_label: "months after the first".into(),
        y_label: "fill of stamps in percent".into(),
        logarithmic: false,
        lines: vec![
            fill("fullest stamp", |month| month.balance.most),
            fill("mean", |month| month.balance.mean),
            fill("least full stamp", |month| month.balance.least),
        ],
        limit: Some(("hard limit".into(), 100.0)),
    }
}
