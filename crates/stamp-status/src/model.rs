//! The status itself: what the page shows, in the words it shows it in. Its JSON is in
//! docs/status-page.md; a field there is never renamed, new ones may come.

use std::time::Duration;

use serde::Serialize;

use crate::facts::Facts;
use crate::history::History;
use crate::parts::{Figure, Level, NAME_CHARS_MAX, Section, cut};
use crate::sample::Samples;
use crate::{consumer, mover, provisioner, text};

/// Most tenants that the filter proposes.
pub const TENANTS_MAX: usize = 100;
/// Longest filter, in characters; what follows is not looked at. A tenant's id is shorter.
pub const FILTER_CHARS_MAX: usize = 128;

/// Which service a page is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// `stampworks consume`, and a stamp of the demo.
    Consumer,
    /// `stampworks provision`.
    Provisioner,
    /// `stampworks device move`.
    Mover,
}

impl Service {
    /// As a person calls it.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Provisioner => "provisioner",
            Self::Mover => "move of devices",
        }
    }

    /// The counters that lines are drawn of.
    #[must_use]
    pub fn lines(self) -> &'static [&'static str] {
        match self {
            Self::Consumer => &["stamp_events_received_total", "stamp_rows_written_total"],
            Self::Provisioner => &["stamp_provision_requests_total"],
            Self::Mover => &["stamp_move_acts_total"],
        }
    }

    /// The counters that are counted of late.
    #[must_use]
    pub fn recent(self) -> &'static [&'static str] {
        match self {
            Self::Consumer => &[
                "stamp_rejected_events_total",
                "stamp_quarantined_events_total",
            ],
            Self::Provisioner => &["stamp_provision_requests_total"],
            Self::Mover => &["stamp_move_acts_total"],
        }
    }
}

/// What a status is made of.
pub struct Input<'a> {
    /// Whose page it is.
    pub service: Service,
    /// The name of the stamp or the provisioner.
    pub name: &'a str,
    /// The version of the program.
    pub program: &'a str,
    /// Microseconds since 1970 UTC.
    pub now_us: i64,
    /// Since the process started.
    pub uptime: Duration,
    /// What the service waits for, in words; empty when it is ready.
    pub waiting_for: Vec<&'static str>,
    /// Every metric.
    pub samples: &'a Samples,
    /// The last minutes.
    pub history: &'a History,
    /// What no metric says; `None` while the service starts.
    pub facts: Option<&'a Facts>,
    /// Only tenants whose id holds this text.
    pub tenant: Option<&'a str>,
}

/// Which tenants are shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Filter {
    /// Those whose id holds this text; everybody when it is empty.
    pub tenant: String,
}

impl Filter {
    /// Of what somebody typed.
    #[must_use]
    pub fn new(tenant: Option<&str>) -> Self {
        let tenant = tenant.unwrap_or_default().trim();
        Self {
            tenant: tenant.chars().take(FILTER_CHARS_MAX).collect(),
        }
    }

    /// Whether a tenant is shown. Capitals are as small letters: ids have none.
    #[must_use]
    pub fn shows(&self, tenant: &str) -> bool {
        self.tenant.is_empty()
            || tenant
                .to_ascii_lowercase()
                .contains(&self.tenant.to_ascii_lowercase())
    }

    /// Whether rows of no tenant are shown.
    #[must_use]
    pub fn shows_all(&self) -> bool {
        self.tenant.is_empty()
    }
}

/// Everything that a page shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Status {
    /// Of this shape; 1.
    pub version: u32,
    /// Whose page it is.
    pub service: Service,
    /// The name of the stamp or the provisioner.
    pub name: String,
    /// The version of the program.
    pub program: String,
    /// When it was made, UTC, to the second.
    pub time: String,
    /// The time of day in it, as it is shown.
    pub clock: String,
    /// Since the process started.
    pub uptime_seconds: u64,
    /// The same as it is shown.
    pub uptime: String,
    /// Whether the service does its work.
    pub ready: bool,
    /// What it waits for; empty when it is ready.
    pub waiting_for: Vec<&'static str>,
    /// Figures and rows that are not fine.
    pub attention: usize,
    /// All of it in one sentence.
    pub summary: String,
    /// The highest level of all.
    pub level: Level,
    /// Which tenants are shown.
    pub filter: Filter,
    /// Tenants that there are, at most [`TENANTS_MAX`]; empty where a service has none.
    pub tenants: Vec<String>,
    /// The numbers at the top.
    pub figures: Vec<Figure>,
    /// The tables.
    pub sections: Vec<Section>,
}

impl Status {
    /// As JSON.
    #[must_use]
    pub fn json(&self) -> String {
        // Every key is a text and every value a plain one: there is nothing that can fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// What a service's program puts on its page.
pub(crate) struct Content {
    pub(crate) tenants: Vec<String>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) sections: Vec<Section>,
}

/// Makes a status. The same input gives the same one.
#[must_use]
pub fn status(input: &Input<'_>) -> Status {
    let filter = Filter::new(input.tenant);
    let mut content = match input.service {
        Service::Consumer => consumer::content(input, &filter),
        Service::Provisioner => provisioner::content(input),
        Service::Mover => mover::content(input),
    };
    content.tenants.truncate(TENANTS_MAX);
    let figures = content.figures.iter().map(|figure| figure.level);
    let rows = content.sections.iter().flat_map(|section| &section.rows);
    let levels: Vec<Level> = figures.chain(rows.map(|row| row.level)).collect();
    let attention = levels.iter().filter(|&&level| level > Level::Fine).count();
    let ready = input.waiting_for.is_empty();
    let level = levels.into_iter().max().unwrap_or_default();
    Status {
        version: 1,
        service: input.service,
        name: cut(input.name, NAME_CHARS_MAX),
        program: cut(input.program, NAME_CHARS_MAX),
        time: text::moment(input.now_us),
        clock: text::clock(input.now_us),
        uptime_seconds: input.uptime.as_secs(),
        uptime: text::span(input.uptime.as_secs() as f64),
        ready,
        summary: summary(&input.waiting_for, attention),
        waiting_for: input.waiting_for.clone(),
        attention,
        level: level.max(Level::warn_if(!ready)),
        filter,
        tenants: content.tenants,
        figures: content.figures,
        sections: content.sections,
    }
}

fn summary(waiting_for: &[&str], attention: usize) -> String {
    let attention = match attention {
        0 => None,
        1 => Some("1 thing needs a look".to_owned()),
        many => Some(format!("{many} things need a look")),
    };
    match (waiting_for, attention) {
        ([], None) => "Ready, all is well".to_owned(),
        ([], Some(attention)) => format!("Ready, {attention}"),
        (missing, None) => format!("Not ready: {}", missing.join(", ")),
        (missing, Some(attention)) => format!("Not ready: {}; {attention}", missing.join(", ")),
    }
}
