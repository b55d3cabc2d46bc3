//! `millrace services`: where Services are reached, and who is behind them.

use std::collections::BTreeMap;

use clap::Args;

use crate::node::ServiceStatus;
use crate::output::{Asking, Heading, Table};

/// Show the Services of a node: where they are reached, where their connections go from here, and
/// what is wrong with them.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace services")]
pub(crate) struct ServicesArgs {
    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// Asks and prints.
pub(crate) fn run(args: &ServicesArgs) -> anyhow::Result<()> {
    let services: BTreeMap<String, ServiceStatus> = args.asking.client()?.get("/v1/services")?;
    args.asking.print(&services, text)
}

/// Services as a table, a line for each place or endpoint, with problems under it.
fn text(services: &BTreeMap<String, ServiceStatus>) -> String {
    if services.is_empty() {
        return "there are no Services".to_owned();
    }
    let mut table = Table::new([
        Heading::text("service"),
        Heading::number("generation"),
        Heading::text("reached at"),
        Heading::text("endpoints"),
    ]);
    for (name, service) in services {
        let lines = service.frontends.len().max(service.endpoints.len()).max(1);
        for line in 0..lines {
            let cell = |of: &[String]| of.get(line).cloned().unwrap_or_default();
            let generation = service.generation.map_or_else(|| "-".to_owned(), |it| it.to_string());
            let [name, generation] =
                if line == 0 { [name.clone(), generation] } else { Default::default() };
            table.row([name, generation, cell(&service.frontends), cell(&service.endpoints)]);
        }
    }
    let problems = services.iter().flat_map(|(name, service)| {
        service.problems.iter().map(move |problem| format!("\n! {name}: {problem}"))
    });
    table.text() + &problems.collect::<String>()
}
