//! A board as Grafana reads it (dashboard JSON model, schema version 39: Grafana 10.3 and newer).

use serde_json::{Value, json};

use super::{Board, Kind, Panel, Subject};

const SCHEMA_VERSION: u32 = 39;
const COLUMNS: u32 = 24;
const RUNBOOKS: &str = "https://github.com/stampworks/stampworks/blob/main/docs/operations";
/// Devices that were sent away from a stamp.
const MOVES: &str = "sum by (stamp) (increase(stamp_move_acts_total{stamp=~\"$stamp\",act=\"disable-source\",outcome=\"done\"}[1m])) > 0";
/// A version that was not there two minutes before, as long as it is new.
const DEPLOYS: &str = "group by (stamp, version) (stamp_build_info{stamp=~\"$stamp\"}) \
    unless group by (stamp, version) (stamp_build_info{stamp=~\"$stamp\"} offset 2m)";

pub(super) fn board(board: &Board) -> Value {
    json!({
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["stampworks"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": true,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": { "from": "now-6h", "to": "now" },
        "timezone": "utc",
        "links": [{
            "title": "Stampworks",
            "type": "dashboards",
            "tags": ["stampworks"],
            "asDropdown": false,
            "includeVars": true,
            "keepTime": true,
        }],
        "annotations": { "list": annotations(board) },
        "templating": { "list": variables(board) },
        "panels": panels(board),
    })
}

/// Deploys and moves, where the subject is one that has them.
fn annotations(board: &Board) -> Vec<Value> {
    match board.subject {
        Subject::Stamp | Subject::Tenant => {
            let text = "{{stamp}} runs {{version}}";
            vec![
                annotation("Deploys", DEPLOYS, text, "blue"),
                annotation("Moves", MOVES, "devices leave {{stamp}}", "purple"),
            ]
        }
        Subject::Provisioner => Vec::new(),
    }
}

fn annotation(name: &str, expr: &str, text: &str, color: &str) -> Value {
    json!({
        "name": name,
        "datasource": datasource(),
        "enable": true,
        "iconColor": color,
        "expr": expr,
        "step": "30s",
        "titleFormat": name,
        "textFormat": text,
    })
}

fn datasource() -> Value {
    json!({ "type": "prometheus", "uid": "${datasource}" })
}

fn variables(board: &Board) -> Vec<Value> {
    let mut list = vec![json!({
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    })];
    let (label, named_by) = match board.subject {
        Subject::Stamp | Subject::Tenant => {
            ("Stamp", "label_values(stamp_partitions_owned, stamp)")
        }
        Subject::Provisioner => (
            "Provisioner",
            "label_values(stamp_catalogue_current, stamp)",
        ),
    };
    list.push(variable("stamp", label, named_by));
    if board.subject == Subject::Tenant {
        list.push(variable(
            "tenant",
            "Tenant",
            "label_values(stamp_events_total{stamp=~\"$stamp\"}, tenant)",
        ));
    }
    list
}

fn variable(name: &str, label: &str, query: &str) -> Value {
    json!({
        "name": name,
        "label": label,
        "type": "query",
        "datasource": datasource(),
        "definition": query,
        "query": { "query": query, "refId": name },
        "refresh": 2,
        "sort": 1,
        "multi": true,
        "includeAll": true,
        "allValue": ".+",
        "current": { "text": ["All"], "value": ["$__all"] },
    })
}

/// Panels from left to right below their heading; a row breaks where the next one has no room.
fn panels(board: &Board) -> Vec<Value> {
    let mut all = Vec::new();
    let mut y = 0;
    for row in &board.rows {
        let id = all.len() + 1;
        all.push(json!({
            "id": id,
            "type": "row",
            "title": row.title,
            "collapsed": false,
            "panels": [],
            "gridPos": { "x": 0, "y": y, "w": COLUMNS, "h": 1 },
        }));
        y += 1;
        let (mut x, mut tallest) = (0, 0);
        for each in &row.panels {
            let height = height(each.kind);
            if x + each.width > COLUMNS {
                y += tallest;
                (x, tallest) = (0, 0);
            }
            let place = json!({ "x": x, "y": y, "w": each.width, "h": height });
            all.push(panel(each, all.len() + 1, place));
            x += each.width;
            tallest = tallest.max(height);
        }
        y += tallest;
    }
    all
}

fn height(kind: Kind) -> u32 {
    match kind {
        Kind::Stat => 4,
        Kind::Lines | Kind::Stack | Kind::States | Kind::Table => 8,
    }
}

fn panel(panel: &Panel, id: usize, place: Value) -> Value {
    let links: Vec<Value> = panel.runbook.iter().map(|page| runbook(page)).collect();
    let mut value = json!({
        "id": id,
        "type": kind_name(panel.kind),
        "title": panel.title,
        "description": panel.description,
        "gridPos": place,
        "datasource": datasource(),
        "targets": targets(panel),
        "links": links,
        "fieldConfig": { "defaults": defaults(panel), "overrides": overrides(panel) },
        "options": options(panel.kind),
    });
    if panel.kind == Kind::Table {
        value["transformations"] = json!([
            { "id": "merge", "options": {} },
            { "id": "organize", "options": { "excludeByName": { "Time": true } } },
        ]);
    }
    value
}

fn runbook(page: &str) -> Value {
    json!({ "title": "Runbook", "url": format!("{RUNBOOKS}/{page}.md"), "targetBlank": true })
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Stat => "stat",
        Kind::Lines | Kind::Stack => "timeseries",
        Kind::States => "state-timeline",
        Kind::Table => "table",
    }
}

fn targets(panel: &Panel) -> Vec<Value> {
    let is_table = panel.kind == Kind::Table;
    let is_now = is_table || panel.kind == Kind::Stat;
    let target = |(letter, query): (char, &super::Query)| {
        json!({
            "refId": letter.to_string(),
            "datasource": datasource(),
            "expr": query.expr,
            "legendFormat": if is_table { "__auto" } else { query.legend },
            "format": if is_table { "table" } else { "time_series" },
            "instant": is_now,
            "range": !is_now,
        })
    };
    ('A'..='Z').zip(&panel.queries).map(target).collect()
}

fn defaults(panel: &Panel) -> Value {
    let mut defaults = json!({
        "unit": panel.unit,
        "thresholds": { "mode": "absolute", "steps": steps(panel) },
    });
    if panel.kind == Kind::Stat && panel.limits.is_none() {
        defaults["color"] = json!({ "mode": "fixed", "fixedColor": "blue" });
    }
    if matches!(panel.kind, Kind::Lines | Kind::Stack) {
        defaults["min"] = json!(0);
        defaults["custom"] = json!({
            "lineWidth": 1,
            "fillOpacity": if panel.kind == Kind::Stack { 30 } else { 5 },
            "showPoints": "never",
            "stacking": { "mode": if panel.kind == Kind::Stack { "normal" } else { "none" } },
            "thresholdsStyle": { "mode": if panel.limits.is_some() { "line" } else { "off" } },
        });
    }
    if panel.kind == Kind::States {
        defaults["mappings"] = json!([{
            "type": "value",
            "options": {
                "0": { "text": "closed", "color": "green", "index": 0 },
                "1": { "text": "half open", "color": "orange", "index": 1 },
                "2": { "text": "open", "color": "red", "index": 2 },
            },
        }]);
    }
    defaults
}

fn steps(panel: &Panel) -> Value {
    match panel.limits {
        None => json!([{ "color": "green", "value": null }]),
        Some((orange, red)) if orange <= red => json!([
            { "color": "green", "value": null },
            { "color": "orange", "value": orange },
            { "color": "red", "value": red },
        ]),
        // Small values are bad.
        Some((orange, red)) => json!([
            { "color": "red", "value": null },
            { "color": "orange", "value": red },
            { "color": "green", "value": orange },
        ]),
    }
}

/// The columns of a table have the names of their queries, and a unit where the name ends in one.
fn overrides(panel: &Panel) -> Vec<Value> {
    if panel.kind != Kind::Table {
        return Vec::new();
    }
    let column = |(letter, query): (char, &super::Query)| {
        let unit = match query.legend.rsplit_once(", ") {
            Some((_, unit)) => unit,
            None => "short",
        };
        let name = query.legend.split(", ").next();
        json!({
            "matcher": { "id": "byName", "options": format!("Value #{letter}") },
            "properties": [
                { "id": "displayName", "value": name },
                { "id": "unit", "value": unit },
            ],
        })
    };
    ('A'..='Z').zip(&panel.queries).map(column).collect()
}

fn options(kind: Kind) -> Value {
    match kind {
        Kind::Stat => json!({
            "colorMode": "background",
            "graphMode": "none",
            "reduceOptions": { "calcs": ["lastNotNull"], "fields": "", "values": false },
        }),
        Kind::Lines | Kind::Stack => json!({
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
            "tooltip": { "mode": "multi", "sort": "desc" },
        }),
        Kind::States => json!({
            "mergeValues": true,
            "showValue": "auto",
            "legend": { "displayMode": "list", "placement": "bottom", "showLegend": true },
        }),
        Kind::Table => json!({ "showHeader": true, "cellHeight": "sm" }),
    }
}
