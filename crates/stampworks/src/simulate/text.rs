//! The report for a person: Markdown, so that it can be kept as a page.

use super::report::Report;
use super::world::Balance;

impl Report {
    /// Every line of it.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        self.fleet_lines(&mut lines);
        self.outage_lines(&mut lines);
        self.region_lines(&mut lines);
        self.growth_lines(&mut lines);
        heading(&mut lines, "Promises");
        let kept = |kept| if kept { "kept" } else { "BROKEN" }.to_owned();
        let rows = self.promises.iter();
        let rows = rows.map(|promise| vec![promise.promise.clone(), kept(promise.kept)]);
        table(&mut lines, &["promise", ""], rows);
        lines
    }

    fn fleet_lines(&self, lines: &mut Vec<String>) {
        let fleet = &self.fleet;
        heading(lines, "Fleet");
        lines.push(format!(
            "{} devices of {} tenants on {} stamps, seed {}. Each hub: {} x {}, {} new connections a \
             second. Fill: {}. Largest state held at once: {:.1} MB.",
            grouped(self.devices),
            grouped(fleet.tenants),
            self.stamps,
            self.seed,
            fleet.tier,
            fleet.units,
            fleet.connections_per_second,
            filled(fleet.balance),
            self.state_bytes as f64 / 1e6,
        ));
    }

    fn outage_lines(&self, lines: &mut Vec<String>) {
        let outage = &self.outage;
        heading(lines, "Outage of every hub");
        lines.push(format!(
            "{} long; first reconnects are spread over {}, for outages of {}.",
            time(outage.outage_s),
            time(outage.spread_s),
            time(outage.ride_out_s)
        ));
        lines.push(String::new());
        let rows = outage.strategies.iter().map(|row| {
            vec![
                row.strategy.name().to_owned(),
                grouped(row.attempts),
                ratio(row.amplification),
                share(row.amplification_alone),
                share(row.amplification_gateways),
                grouped(row.throttled),
                format!(
                    "{} of {}",
                    grouped(row.peak_per_second),
                    row.limit_per_second
                ),
                time(row.recovered_99_percent_s),
                time(row.recovered_all_s),
                grouped(row.missing),
            ]
        });
        let columns = [
            "policy",
            "attempts",
            "a reconnect",
            "alone",
            "gateways",
            "throttled",
            "peak/s of limit",
            "99 % back after",
            "all",
            "never",
        ];
        table(lines, &columns, rows);
        lines.push(String::new());
        lines.push("As shipped, one hub, by length of the outage:".into());
        lines.push(String::new());
        let rows = outage.lengths.iter().map(|row| {
            vec![
                time(row.outage_s),
                share(row.amplification_alone),
                share(row.amplification_gateways),
                time(row.recovered_all_s),
                grouped(row.missing),
            ]
        });
        table(
            lines,
            &["outage", "alone", "gateways", "all back after", "never"],
            rows,
        );
    }

    fn region_lines(&self, lines: &mut Vec<String>) {
        let region = &self.region;
        heading(lines, "Move of a region");
        lines.push(format!(
            "{}: stamps {}, tenants {}, stamps added beside it {}. Paced at {} devices a minute and \
             stamp (DPS takes {}), old hubs with {} units meanwhile. Fill of the stamps that are \
             left: {}.",
            region.region,
            region.stamps,
            grouped(region.tenants),
            region.stamps_added,
            region.pace_per_minute,
            region.dps_limit_per_minute,
            region.units_during_move,
            filled(region.balance),
        ));
        lines.push(String::new());
        let rows = region.strategies.iter().map(|row| {
            let mut cells = vec![row.strategy.name().to_owned(), grouped(row.devices)];
            cells.extend(row.steps.iter().map(|step| ratio(step.amplification)));
            let dps = grouped(row.dps_peak_per_minute);
            cells.push(format!("{dps} of {}", region.dps_limit_per_minute));
            let hubs = row.old_hub_peak_per_second.max(row.new_hub_peak_per_second);
            cells.push(format!(
                "{} of {}",
                grouped(hubs),
                row.connections_per_second
            ));
            cells.push(time(row.took_s));
            cells.push(grouped(row.missing));
            cells
        });
        let columns = [
            "policy",
            "devices",
            "turned away",
            "registration",
            "poll",
            "connection",
            "DPS peak/min of limit",
            "hub peak/s of limit",
            "took",
            "never arrived",
        ];
        table(lines, &columns, rows);
    }

    fn growth_lines(&self, lines: &mut Vec<String>) {
        heading(lines, "A year of growth");
        let rows = self.growth.iter().map(|month| {
            vec![
                month.month.to_string(),
                month.stamps.to_string(),
                month.ordered.to_string(),
                grouped(month.tenants),
                grouped(month.devices),
                month.placed.to_string(),
                month.moves.to_string(),
                grouped(month.devices_moved),
                grouped(month.devices_moved_by_modulo),
                filled(month.balance),
            ]
        });
        let columns = [
            "month",
            "stamps",
            "ordered",
            "tenants",
            "devices",
            "placed",
            "moves",
            "devices moved",
            "by hash modulo",
            "fill",
        ];
        table(lines, &columns, rows);
    }
}

fn heading(lines: &mut Vec<String>, text: &str) {
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.push(format!("## {text}"));
    lines.push(String::new());
}

fn table(lines: &mut Vec<String>, columns: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    lines.push(format!("| {} |", columns.join(" | ")));
    lines.push(format!("|{}", "---|".repeat(columns.len())));
    lines.extend(rows.map(|cells| format!("| {} |", cells.join(" | "))));
}

fn ratio(ratio: f64) -> String {
    format!("{ratio:.3}")
}

/// A dash where there is nobody.
fn share(of: Option<f64>) -> String {
    of.map_or_else(|| "-".to_owned(), ratio)
}

fn filled(balance: Balance) -> String {
    let percent = |part: f64| format!("{:.1} %", part * 100.0);
    let (least, mean, most) = (balance.least, balance.mean, balance.most);
    format!(
        "{} to {}, mean {}",
        percent(least),
        percent(most),
        percent(mean)
    )
}

fn time(seconds: u64) -> String {
    humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string()
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let texts = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "1,234,567"]);
    }
}
