//! What a status page shows, as JSON and as HTML.
//!
//! [`status`] makes a [`Status`] of a service's numbers ([`Samples`]), of their last minutes
//! ([`History`]) and of what no metric says ([`Facts`]). [`Status::json`] and [`html()`] say the same:
//! all decisions (what is shown, in which words, what is alarming, where a list is cut) are made once, in
//! the status, and the page's script only puts new texts in the old ones' places.
//!
//! Pure logic: no I/O, no clock. Whatever a name says, it is text: the HTML is written by a macro that
//! escapes every value, and no device, address or secret is among what comes in here.

mod consumer;
mod facts;
mod history;
mod html;
mod model;
mod mover;
mod parts;
mod peers;
mod provisioner;
mod sample;
mod text;

pub use facts::{
    AxisUse, ConsumerFacts, Facts, OwnerFacts, ProvisionerFacts, QuotaUse, StampFacts, TableFacts,
    TenantFacts,
};
pub use history::{EVERY, History, POINTS_MAX};
pub use html::{CONTENT_SECURITY_POLICY, ICON, SCRIPT, STYLE, html};
pub use model::{FILTER_CHARS_MAX, Filter, Input, Service, Status, TENANTS_MAX, status};
pub use parts::{Cell, Column, Figure, Level, ROWS_MAX, Row, Section, Value};
pub use sample::{Sample, Samples};
