//! `stampworks fleet place`.

use clap::Args;
use stamp_model::{DeviceId, StampId, TenantId};
use stamp_placement::placement::{Outcome, Refusal};
use stamp_placement::{Answer, Environment, Fleet, Planner, Request, Tenant};

use super::files::{CataloguePath, load};
use super::usage::{UsageArgs, UsageFile};
use super::{OutputFormat, percent, print_json, table};
use crate::exit::Failure;
use crate::output;

/// Arguments of `stampworks fleet place`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stampworks fleet place --tenant contoso --explain\n  \
    stampworks fleet place --tenant contoso --device press-7 --usage usage.toml\n  \
    stampworks fleet place --all --reservations provision.toml --output json\n\n\
    Reserves nothing. Exits with 1 when something has no stamp."
)]
pub(super) struct PlaceArgs {
    #[command(flatten)]
    fleet: CataloguePath,
    /// The tenant to place, or whose device is placed.
    #[arg(long, required_unless_present = "all", value_parser = |text: &str| TenantId::parse(text))]
    tenant: Option<TenantId>,
    /// A device of the tenant.
    #[arg(long, requires = "tenant", value_parser = |text: &str| DeviceId::parse(text.into()))]
    device: Option<DeviceId>,
    /// Every tenant of the catalogue, each counted before the next.
    #[arg(long, conflicts_with_all = ["tenant", "device"])]
    all: bool,
    /// `test` or `production`; the tenant's own when not given.
    #[arg(long, value_parser = environment)]
    environment: Option<Environment>,
    /// The stamp that the device is on now; where it is booked when not given.
    #[arg(long, requires = "device", value_parser = |text: &str| StampId::parse(text))]
    on: Option<StampId>,
    #[command(flatten)]
    usage: UsageArgs,
    /// Say of every other stamp why it was not taken.
    #[arg(long)]
    explain: bool,
    /// How the answer is printed.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    output: OutputFormat,
}

fn environment(text: &str) -> Result<Environment, String> {
    Environment::parse(text).ok_or_else(|| "is test or production".to_owned())
}

pub(super) fn run(args: &PlaceArgs) -> Result<(), Failure> {
    let loaded = load(&args.fleet.path)?;
    let fleet = &loaded.catalogue.fleet;
    let usage_file = args.usage.load(fleet)?;
    let mut usage = usage_file.usage(fleet);
    let planner = Planner::new(fleet);
    let answers = match &args.tenant {
        Some(tenant) => {
            let mut request = request(args, &planner, &usage_file, tenant);
            if let (Some(device), None) = (&args.device, &args.on) {
                request.current = args.usage.device(device)?;
            }
            vec![if args.explain {
                planner.explain(&usage, &request)
            } else {
                planner.place(&usage, &request)
            }]
        }
        None => {
            let request = |tenant: &Tenant| of_tenant(args, &planner, &usage_file, tenant);
            let requests: Vec<Request> = fleet.tenants().iter().map(request).collect();
            planner.place_all(&mut usage, &requests)
        }
    };
    match args.output {
        OutputFormat::Json => print_json(&answers)?,
        OutputFormat::Text => answers.iter().for_each(|answer| print(fleet, answer)),
    }
    match answers
        .iter()
        .filter(|answer| answer.stamp().is_none())
        .count()
    {
        0 => Ok(()),
        1 if args.tenant.is_some() => Err(Failure::because("it has no stamp")),
        refused => Err(Failure::because(format!("{refused} tenants have no stamp"))),
    }
}

fn of_tenant(
    args: &PlaceArgs,
    planner: &Planner<'_>,
    usage: &UsageFile,
    tenant: &Tenant,
) -> Request {
    let mut request = Request::tenant(tenant);
    request.environment = args.environment;
    let environment = planner.environment_of(&request);
    request.current = usage.home(planner.fleet(), &tenant.id, environment);
    request
}

fn request(
    args: &PlaceArgs,
    planner: &Planner<'_>,
    usage: &UsageFile,
    tenant: &TenantId,
) -> Request {
    let fleet = planner.fleet();
    let known = fleet.tenant(tenant);
    let Some(device) = &args.device else {
        let unknown = || Request {
            tenant: tenant.clone(),
            device: None,
            environment: args.environment,
            needs: stamp_placement::Load::ZERO,
            current: None,
            home: None,
        };
        return known.map_or_else(unknown, |tenant| of_tenant(args, planner, usage, tenant));
    };
    let mut request = Request::device(tenant.clone(), device.clone(), None);
    request.environment = args.environment;
    let environment = planner.environment_of(&request);
    let home = usage.home(fleet, tenant, environment);
    Request {
        environment: Some(environment),
        current: args.on.clone(),
        ..Request::device(tenant.clone(), device.clone(), home)
    }
}

fn print(fleet: &Fleet, answer: &Answer) {
    let device = answer
        .device
        .as_ref()
        .map_or(String::new(), |d| format!(" device {d}"));
    let who = format!("{}{device}, {}", answer.tenant, answer.environment);
    match &answer.outcome {
        Outcome::Placed {
            stamp,
            why,
            fill,
            over_soft,
        } => {
            let hub = fleet
                .stamp(stamp)
                .map_or("", |stamp| stamp.iot_hub.name.as_str());
            let fill = percent(*fill);
            output::line(&format!(
                "{who}: {stamp} ({hub}): {why}; {fill} full with it"
            ));
            for axis in over_soft {
                output::line(&format!("  over its soft limit on {axis}: add a stamp"));
            }
        }
        Outcome::Refused(refusal) => {
            output::line(&format!("{who}: no stamp: {refusal}"));
            if let Refusal::NoneFits { full: 1.. } = refusal {
                output::line("  add a stamp, or raise a limit if its tiers allow");
            }
        }
    }
    let reasons = |objections: &[stamp_placement::placement::Objection]| {
        let reasons: Vec<String> = objections.iter().map(ToString::to_string).collect();
        reasons.join(", ")
    };
    let rows: Vec<Vec<String>> = answer
        .rejected
        .iter()
        .map(|rejected| {
            let why = match rejected.objections.as_slice() {
                [] => "fits, ranked after it".to_owned(),
                objections => reasons(objections),
            };
            vec![format!("  {}", rejected.stamp), why]
        })
        .collect();
    table(&rows).iter().for_each(|line| output::line(line));
}
