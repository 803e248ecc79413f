//! The page: a document that needs no script, and the three files beside it.
//!
//! Every value goes through the macro's escaping. There is no inline style, script or handler, so that
//! the policy below can forbid them all.

use maud::{DOCTYPE, Markup, html as markup};

use crate::model::Status;
use crate::parts::{Cell, Column, Figure, Level, Row, Section, Value};

/// What a browser may load and run for the page: its own files, and nothing written into it.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; \
    img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
/// `status.css`.
pub const STYLE: &str = include_str!("../assets/status.css");
/// `status.js`.
pub const SCRIPT: &str = include_str!("../assets/status.js");
/// `status.svg`: the icon of the tab.
pub const ICON: &str = include_str!("../assets/status.svg");

/// A status as a whole document.
///
/// Addresses in it are relative: it may stand behind a proxy, below a path of its own that ends
/// with a slash.
#[must_use]
pub fn html(status: &Status) -> String {
    let document = markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex";
                title { (status.name) " · Stampworks " (status.service.title()) }
                link rel="icon" type="image/svg+xml" href="status.svg";
                link rel="stylesheet" href="status.css";
                script src="status.js" defer {}
            }
            body {
                a.skip href="#content" { "Skip to the numbers" }
                (top(status))
                main #content tabindex="-1" {
                    section.figures-box aria-label="At a glance" {
                        dl.figures #figures { @for each in &status.figures { (figure(each)) } }
                    }
                    @for each in &status.sections { (section(each)) }
                }
                (bottom(status))
            }
        }
    };
    document.into_string()
}

fn top(status: &Status) -> Markup {
    markup! {
        header.top {
            div.name {
                h1 { (status.name) }
                p.service { "Stampworks " (status.service.title()) }
            }
            p.summary #summary data-level=(status.level.as_str()) { (status.summary) }
            div.live {
                p #live role="status" data-live="off" { "As of " (status.clock) " UTC. Reload for newer numbers." }
                button #pause type="button" hidden { "Pause updates" }
            }
            div.tools {
                nav aria-label="Sections" {
                    ul { @for each in &status.sections { li { a href={ "#" (each.id) } { (each.title) } } } }
                }
                @if !status.tenants.is_empty() || !status.filter.shows_all() { (filter(status)) }
            }
        }
    }
}

fn filter(status: &Status) -> Markup {
    markup! {
        form #filter method="get" action="." role="search" {
            label for="tenant" { "Tenant" }
            input #tenant name="tenant" type="search" list="tenant-names" autocomplete="off" spellcheck="false"
                maxlength=(crate::FILTER_CHARS_MAX) placeholder="all" value=(status.filter.tenant);
            datalist #tenant-names { @for each in &status.tenants { option value=(each) {} } }
            button type="submit" { "Filter" }
            a #all href="." hidden[status.filter.shows_all()] { "Show all" }
        }
    }
}

fn figure(figure: &Figure) -> Markup {
    markup! {
        div.figure data-id=(figure.id) data-level=(figure.level.as_str()) {
            dt { (figure.label) }
            dd.value { (figure.text) }
            dd.note { (figure.note) }
            dd.picture aria-hidden="true" {
                @if !figure.spark.is_empty() {
                    svg.spark viewBox="0 0 120 28" preserveAspectRatio="none" focusable="false" {
                        polyline points=(figure.spark) {}
                    }
                } @else if let Some(share) = figure.share { (bar(share)) }
            }
        }
    }
}

/// A bar without a style of its own: the policy allows none.
fn bar(share: f64) -> Markup {
    markup! {
        svg.bar viewBox="0 0 100 6" preserveAspectRatio="none" focusable="false" aria-hidden="true" {
            rect.track width="100" height="6" {}
            rect.part width={ (format!("{:.1}", share * 100.0)) } height="6" {}
        }
    }
}

fn section(section: &Section) -> Markup {
    let heading = format!("{}-title", section.id);
    markup! {
        section.table-box #(section.id) aria-labelledby=(heading) {
            h2 #(heading) { (section.title) }
            p.about { (section.about) }
            // On a screen of middling width the table scrolls in its box, by keyboard too.
            div.scroll tabindex="0" role="group" aria-labelledby=(heading) hidden[section.rows.is_empty()] {
                table role="table" data-section=(section.id) {
                    thead role="rowgroup" {
                        tr role="row" { @for each in &section.columns { (head(each)) } }
                    }
                    tbody role="rowgroup" { @for each in &section.rows { (row(each, &section.columns)) } }
                }
            }
            p.empty hidden[!section.rows.is_empty()] { (section.empty) }
            p.more hidden[section.more == 0] { (more(section.more)) }
        }
    }
}

fn more(more: usize) -> String {
    format!("and {more} more: narrow the filter, or see the metrics")
}

fn head(column: &Column) -> Markup {
    markup! {
        th role="columnheader" scope="col" class=[column.is_number.then_some("number")] { (column.label) }
    }
}

fn row(row: &Row, columns: &[Column]) -> Markup {
    markup! {
        tr role="row" data-id=(row.id) data-level=(row.level.as_str()) {
            @for ((_, each), column) in row.cells.iter().zip(columns) { (cell(each, column)) }
        }
    }
}

fn cell(cell: &Cell, column: &Column) -> Markup {
    let is_marked = cell.level > Level::Fine;
    markup! {
        td role="cell" data-label=(column.label) class=[column.is_number.then_some("number")]
            data-level=[is_marked.then_some(cell.level.as_str())]
            data-nothing[cell.value == Value::Nothing] {
            @match &cell.link {
                Some(link) => a.text href=(link) rel="noreferrer" { (cell.text) },
                None => span.text { (cell.text) },
            }
            @if let Some(share) = cell.share { (bar(share)) }
        }
    }
}

fn bottom(status: &Status) -> Markup {
    markup! {
        footer {
            p { "Version " (status.program) ", up for " span #uptime { (status.uptime) } "." }
            p { a href="metrics" { "Metrics" } " · " a #json href="status.json" { "This page as JSON" } }
        }
    }
}
