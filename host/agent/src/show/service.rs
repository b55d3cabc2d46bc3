//! `millrace service`: one Service, and all that a node knows of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Context;
use clap::{Args, Subcommand};

use crate::node::ServiceStatus;
use crate::output::{Asking, Heading, Table};

/// Look at a Service.
#[derive(Subcommand, Debug)]
pub(crate) enum ServiceCommand {
    Show(ShowArgs),
}

/// Show a Service: where it is reached, and which endpoints it has, here and elsewhere.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace service show web
  millrace service show shop/web -o json")]
pub(crate) struct ShowArgs {
    /// Its name, or `namespace/name`.
    #[arg(value_name = "SERVICE")]
    name: String,
    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// Carries out the command.
pub(crate) fn run(command: &ServiceCommand) -> anyhow::Result<()> {
    let ServiceCommand::Show(ShowArgs { name, asking }) = command;
    let name = if name.contains('/') { name.clone() } else { format!("default/{name}") };
    let mut all: BTreeMap<String, ServiceStatus> = asking.client()?.get("/v1/services")?;
    let service = all.remove(&name).with_context(|| {
        let others: Vec<_> = all.keys().map(String::as_str).collect();
        format!("there is no Service `{name}`; there is: {}", others.join(", "))
    })?;
    asking.print(&service, |service| text(&name, service))
}

fn text(name: &str, service: &ServiceStatus) -> String {
    let mut text = match service.generation {
        Some(generation) => format!("{name}: in force since generation {generation}\n"),
        None => format!("{name}: not in force as it is now\n"),
    };
    for problem in &service.problems {
        let _ = writeln!(text, "! {problem}");
    }
    if let Some(port) = service.health_check_port {
        let count = service.local.len();
        let _ = writeln!(text, "health check at port {port}: {count} endpoints here");
    }
    let mut frontends = Table::new([Heading::text("reached at")]);
    service.frontends.iter().for_each(|it| frontends.row([it.clone()]));
    let mut endpoints = Table::new([Heading::text("endpoint"), Heading::text("where")]);
    for endpoint in &service.endpoints {
        let place = if service.local.contains(endpoint) { "here" } else { "elsewhere" };
        endpoints.row([endpoint.clone(), place.to_owned()]);
    }
    format!("{text}\n{}\n\n{}", frontends.text(), endpoints.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_shown_with_where_its_endpoints_are_and_what_is_wrong() {
        let service = ServiceStatus {
            generation: Some(3),
            frontends: vec!["10.96.0.10:80/TCP".into()],
            endpoints: vec!["10.1.0.2:8080".into(), "10.1.1.2:8080".into()],
            local: vec!["10.1.0.2:8080".into()],
            health_check_port: Some(32_000),
            problems: vec!["port 81/TCP: it is not served".into()],
        };
        let shown = text("default/web", &service);
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "default/web: in force since generation 3");
        assert_eq!(lines[1], "! port 81/TCP: it is not served");
        assert_eq!(lines[2], "health check at port 32000: 1 endpoints here");
        let has = |parts: [&str; 2]| {
            lines.iter().any(|line| parts.iter().all(|part| line.contains(part)))
        };
        assert!(has(["10.1.0.2:8080", "here"]) && has(["10.1.1.2:8080", "elsewhere"]), "{shown}");
        assert!(has(["10.96.0.10:80/TCP", ""]), "{shown}");
        let stale = ServiceStatus { generation: None, ..service };
        assert!(text("default/web", &stale).starts_with("default/web: not in force"));
    }
}
