//! `stampworks fleet plan`.

use std::path::Path;

use clap::{ArgGroup, Args};
use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};
use stamp_consumer::ConfigError;
use stamp_placement::growth::{Forecast, Growth, GrowthError, Percent, Reached, forecast};

use super::files::{CataloguePath, load};
use super::usage::{UsageArgs, read_toml};
use super::{OutputFormat, percent, print_json, table};
use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks fleet plan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stampworks fleet plan --growth 5% --usage usage.toml\n  \
    stampworks fleet plan --growth growth.toml --reservations provision.toml --months 24",
    group(ArgGroup::new("used").required(true).multiple(true).args(["usage", "reservations"]))
)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    fleet: CataloguePath,
    /// Growth a month such as `5%`, or a file (docs/fleet.md).
    #[arg(long, value_name = "FILE|RATE")]
    growth: String,
    #[command(flatten)]
    usage: UsageArgs,
    /// How far to look ahead.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=120))]
    months: u32,
    /// How the plan is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

pub(super) fn run(args: &PlanArgs) -> Result<(), Failure> {
    let loaded = load(&args.fleet.path)?;
    let fleet = &loaded.catalogue.fleet;
    let usage = args.usage.load(fleet)?.usage(fleet);
    let growth = growth(&args.growth)?;
    let forecast = forecast(fleet, &usage, &growth, args.months).map_err(refuse)?;
    match args.output {
        OutputFormat::Json => print_json(&forecast),
        OutputFormat::Text => {
            let today = Offset::UTC.to_datetime(Timestamp::now()).date();
            print(&forecast, today);
            Ok(())
        }
    }
}

fn refuse(error: GrowthError) -> Failure {
    ConfigError::value("growth", error.to_string()).into()
}

fn growth(text: &str) -> Result<Growth, Failure> {
    if !text.ends_with('%') {
        return read_toml(Path::new(text));
    }
    let rate = Percent::parse(text).map_err(refuse)?;
    Ok(Growth {
        rate,
        growth: Vec::new(),
    })
}

/// The month that is so many from today, such as `2027-03`.
fn month(today: Date, months: u32) -> String {
    let then = today.checked_add(i64::from(months).months());
    then.map_or_else(
        |_| format!("+{months}"),
        |date| date.strftime("%Y-%m").to_string(),
    )
}

fn print(forecast: &Forecast, today: Date) {
    let reached = |reached: Option<Reached>| match reached {
        Some(reached) if reached.month == 0 => format!("now ({})", reached.axis),
        Some(reached) => format!("{} ({})", month(today, reached.month), reached.axis),
        None => "-".to_owned(),
    };
    let then = month(today, forecast.months);
    let heading = [
        "stamp",
        "kind",
        "full now",
        &format!("in {then}"),
        "soft limit",
        "hard limit",
    ];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for stamp in &forecast.stamps {
        rows.push(vec![
            stamp.stamp.to_string(),
            stamp.kind.to_string(),
            percent(stamp.fill_now),
            percent(stamp.fill_then),
            reached(stamp.soft),
            reached(stamp.hard),
        ]);
    }
    table(&rows).iter().for_each(|line| output::line(line));
    for pool in &forecast.pools {
        let name = format!("{}, {}", pool.geography, pool.environment);
        let stamps = match pool.stamps {
            1 => "1 stamp".to_owned(),
            stamps => format!("{stamps} stamps"),
        };
        if pool.additions.is_empty() {
            let are = if pool.stamps == 1 { "is" } else { "are" };
            output::line(&format!("\n{name}: {stamps} {are} enough until {then}"));
            continue;
        }
        output::line(&format!(
            "\n{name}: {stamps}; add, as large as {}:",
            pool.as_large_as
        ));
        for addition in &pool.additions {
            let by = match addition.month {
                0 => "now".to_owned(),
                months => format!("by {}", month(today, months)),
            };
            output::line(&format!(
                "  {by}: {} in all, for {}",
                addition.stamps, addition.axis
            ));
        }
    }
    let alone = forecast
        .stamps
        .iter()
        .filter(|stamp| stamp.kind == stamp_placement::Kind::Dedicated && stamp.soft.is_some());
    for stamp in alone {
        let line = "is dedicated: another stamp does not help its tenant; give it more units";
        output::line(&format!("\n{} {line}", stamp.stamp));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_counted_from_today() {
        let today = jiff::civil::date(2026, 11, 30);
        assert_eq!(month(today, 1), "2026-12");
        assert_eq!(month(today, 3), "2027-02");
        assert_eq!(month(today, 14), "2028-01");
    }
}
