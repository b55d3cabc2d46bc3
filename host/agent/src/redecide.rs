//! `millrace redecide`: has live connections decided anew.

use clap::Args;
use hyper::Method;

use crate::api::redecide::{Redecide, TagName};
use crate::api::types::Redecided;
use crate::output::{Asking, count};

/// Ask the chain about live connections again, without waiting for their packets.
///
/// This is done whenever the chain changes; ask for it when something else has that filters go by.
/// Connections whose decision is another one now are changed where they are, and stay connections.
/// What happens to those that a stage refuses is its `--on-refused`.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace redecide
  millrace redecide --port mp1
  millrace redecide --tag service:7 --tag prefix:12")]
pub(crate) struct RedecideArgs {
    /// Only the connections that come or go by this port.
    #[arg(long, value_name = "PORT", conflicts_with = "tags")]
    port: Option<String>,
    /// Only the connections that depend on this, as KIND:NUMBER; the kinds are service, policy-set,
    /// identity, prefix and port (repeatable).
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<TagName>,
    #[command(flatten)]
    asking: Asking,
}

/// Asks and prints.
pub(crate) fn run(args: &RedecideArgs) -> anyhow::Result<()> {
    let what = match (&args.port, &*args.tags) {
        (Some(port), _) => Redecide::Port(port.clone()),
        (None, []) => Redecide::All,
        (None, tags) => Redecide::Tags(tags.to_vec()),
    };
    let came_to: Redecided = args.asking.client()?.send(Method::POST, "/v1/redecide", &what)?;
    args.asking.print(&came_to, text)
}

/// In a line: how many, and what became of them.
pub(crate) fn text(came_to: &Redecided) -> String {
    let others = [
        (came_to.changed, "changed"),
        (came_to.kept, "refused and kept"),
        (came_to.dropped, "refused and dropped"),
        (came_to.reset, "refused and reset"),
        (came_to.over, "ended"),
        (came_to.unanswered, "left as they were, since a filter failed"),
    ];
    let others = others.into_iter().filter(|(connections, _)| *connections > 0);
    let others: Vec<_> =
        others.map(|(connections, what)| format!("{} {what}", count(connections))).collect();
    let what = if others.is_empty() { "none changed".to_owned() } else { others.join(", ") };
    format!("{} decided anew: {what}", count(came_to.connections()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_connections_is_said_as_far_as_there_were_any() {
        let none = Redecided { same: 1200, ..Redecided::default() };
        assert_eq!(text(&none), "1,200 decided anew: none changed");
        let some = Redecided { changed: 2, reset: 3, ..none };
        assert_eq!(text(&some), "1,205 decided anew: 2 changed, 3 refused and reset");
    }
}
