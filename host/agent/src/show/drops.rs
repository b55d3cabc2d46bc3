//! `millrace drops`: packets that went no further, by reason.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use clap::Args;
use millrace_abi::Reason;
use serde::Serialize;

use crate::api::types::{ANY_PORT, FateStatus, Port, RuleDrops, RuleStatus};
use crate::output::{Asking, Heading, Output, Table, count, print};

/// Show which packets went no further, why, and who decided so.
///
/// Those that the kernel's flow cache dropped before a worker saw them are not counted by port: they
/// came in by any. Those of connections that a rule refused while they lived are counted by the
/// rule all the same. A rule of a policy names the policy, and the direction.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace drops
  millrace drops --watch
  millrace drops -o json | jq '.[] | select(.reason == \"denied\").packets'")]
pub(crate) struct DropsArgs {
    /// Show them again every second, with what was added, until interrupted.
    #[arg(short, long)]
    pub(crate) watch: bool,
    #[command(flatten)]
    pub(crate) asking: Asking,
}

/// Packets that went no further for one reason.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Drops {
    reason: String,
    help: &'static str,
    packets: u64,
    places: Vec<Drop>,
}

/// Packets that went no further at one place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Drop {
    #[serde(flatten)]
    fate: FateStatus,
    /// The pod behind the port they came in by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    /// By which rules of the stage; those with the most packets first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules: Vec<ByRule>,
}

/// Packets that went no further by one rule.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ByRule {
    #[serde(flatten)]
    rule: RuleStatus,
    packets: u64,
}

/// Asks and prints, once or until interrupted.
pub(crate) fn run(args: &DropsArgs) -> anyhow::Result<()> {
    let client = args.asking.client()?;
    let mut before: Option<BTreeMap<Place, u64>> = None;
    loop {
        let fates: Vec<FateStatus> = client.get("/v1/fates")?;
        let rules: Vec<RuleDrops> = client.get("/v1/fates/rules")?;
        let ports: Vec<Port> = client.get("/v1/ports")?;
        let pods = ports.into_iter().filter_map(|port| Some((port.status.name, port.pod?)));
        let pods: BTreeMap<String, String> = pods.collect();
        let now = fates.iter().map(|fate| (place(fate), fate.packets)).collect();
        let drops = by_reason(fates, rules, &pods);
        if !args.watch {
            return args.asking.print(&drops, |drops| text(drops, None));
        }
        match args.asking.output() {
            Output::Json => print(&serde_json::to_string(&drops)?)?,
            Output::Table => redraw(&text(&drops, before.as_ref()))?,
        }
        before = Some(now);
        std::thread::sleep(EVERY);
    }
}

/// Where packets were dropped: port, stage, fate, reason.
type Place = (String, Option<String>, String, Option<String>);

fn place(fate: &FateStatus) -> Place {
    let reason = fate.reason.as_ref().map(ToString::to_string);
    (fate.port.clone(), fate.stage.clone(), fate.fate.to_string(), reason)
}

/// The most frequent reasons first.
fn by_reason(
    fates: Vec<FateStatus>,
    rules: Vec<RuleDrops>,
    pods: &BTreeMap<String, String>,
) -> Vec<Drops> {
    let mut of_places: BTreeMap<(String, String, String), Vec<ByRule>> = BTreeMap::new();
    for RuleDrops { port, stage, reason, rule, packets } in rules {
        let place = of_places.entry((port, stage, reason.to_string())).or_default();
        place.push(ByRule { rule, packets });
    }
    let mut reasons: BTreeMap<String, Vec<Drop>> = BTreeMap::new();
    for fate in fates {
        if let Some(reason) = &fate.reason {
            let reason = reason.to_string();
            let pod = pods.get(&fate.port).cloned();
            let stage = fate.stage.clone().unwrap_or_default();
            let rules = of_places.remove(&(fate.port.clone(), stage, reason.clone()));
            let mut rules = rules.unwrap_or_default();
            rules.sort_by_key(|it| std::cmp::Reverse(it.packets));
            reasons.entry(reason).or_default().push(Drop { fate, pod, rules });
        }
    }
    let mut drops: Vec<_> = reasons
        .into_iter()
        .map(|(reason, mut places)| {
            places.sort_by_key(|place| std::cmp::Reverse(place.fate.packets));
            Drops {
                help: Reason::from_label(&reason).map_or("", Reason::help),
                packets: places.iter().map(|place| place.fate.packets).sum(),
                reason,
                places,
            }
        })
        .collect();
    drops.sort_by_key(|drops| std::cmp::Reverse(drops.packets));
    drops
}

fn text(drops: &[Drops], before: Option<&BTreeMap<Place, u64>>) -> String {
    if drops.is_empty() {
        return "no packet was dropped".to_owned();
    }
    let mut text = String::new();
    for Drops { reason, help, packets, places } in drops {
        let unit = if *packets == 1 { "packet" } else { "packets" };
        writeln!(text, "{reason}: {} {unit}. {help}", count(*packets))
            .expect("a String takes everything");
        let mut table = Table::new([
            Heading::number("packets"),
            Heading::number("added"),
            Heading::text("came in by"),
            Heading::text("decided by"),
            Heading::text("fate"),
        ]);
        for Drop { fate, pod, .. } in places {
            let earlier = before.map(|before| before.get(&place(fate)).copied().unwrap_or(0));
            table.row([
                count(fate.packets),
                earlier.map_or_else(String::new, |earlier| {
                    format!("+{}", fate.packets.saturating_sub(earlier))
                }),
                match pod {
                    Some(pod) => format!("{} ({pod})", fate.port),
                    None if fate.port == ANY_PORT => "any port".to_owned(),
                    None => fate.port.clone(),
                },
                match &fate.stage {
                    Some(stage) => stage.clone(),
                    None if fate.port == ANY_PORT => "the kernel".to_owned(),
                    None => "the host".to_owned(),
                },
                fate.fate.to_string(),
            ]);
        }
        for line in table.text().lines() {
            writeln!(text, "  {line}").expect("a String takes everything");
        }
        for (place, ByRule { rule, packets }) in
            places.iter().flat_map(|place| place.rules.iter().map(move |rule| (place, rule)))
        {
            let from = match &place.pod {
                None if place.fate.port == ANY_PORT => "any port",
                pod => pod.as_ref().unwrap_or(&place.fate.port),
            };
            let unit = if *packets == 1 { "packet" } else { "packets" };
            let packets = count(*packets);
            let rule = rule.name.clone().unwrap_or_else(|| format!("rule {}", rule.id));
            writeln!(text, "  {packets} {unit} from {from}: {rule}")
                .expect("a String takes everything");
        }
        text.push('\n');
    }
    text
}

/// Prints over what was printed before.
fn redraw(text: &str) -> anyhow::Result<()> {
    use std::io::{IsTerminal, Write};
    if std::io::stdout().is_terminal() {
        // to the top left corner, and all behind it away (ECMA-48 CUP and ED)
        std::io::stdout().write_all(b"\x1b[H\x1b[J")?;
    }
    print(text)
}

/// How often watched drops are shown.
const EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(
        port: &str,
        stage: Option<&str>,
        reason: Option<&'static str>,
        packets: u64,
    ) -> FateStatus {
        FateStatus {
            port: port.into(),
            stage: stage.map(Into::into),
            fate: if reason.is_some() { "dropped".into() } else { "forwarded".into() },
            reason: reason.map(Into::into),
            packets,
        }
    }

    fn rule(port: &str, id: u32, name: Option<&str>, packets: u64) -> RuleDrops {
        let rule = RuleStatus { id, name: name.map(str::to_owned), help: None };
        let (port, stage, reason) = (port.into(), "deny".into(), "denied".into());
        RuleDrops { port, stage, reason, rule, packets }
    }

    #[test]
    fn drops_are_grouped_by_reason_with_its_help() {
        let drops = by_reason(
            vec![
                fate("a", None, None, 1000),
                fate("a", None, Some("no-decision"), 3),
                fate("a", Some("deny"), Some("denied"), 5),
                fate("b", Some("deny"), Some("denied"), 7),
                fate("*", None, Some("agent-down"), 1),
                fate("*", Some("deny"), Some("denied"), 2),
            ],
            vec![
                rule("b", 300, Some("no egress rule of NetworkPolicy default/shop"), 6),
                rule("b", 7, None, 1),
                rule("*", 300, Some("no egress rule of NetworkPolicy default/shop"), 2),
            ],
            &[("b".to_owned(), "default/shop".to_owned())].into(),
        );
        let said: Vec<_> = drops.iter().map(|d| (&*d.reason, d.packets, d.places.len())).collect();
        assert_eq!(said, [("denied", 14, 3), ("no-decision", 3, 1), ("agent-down", 1, 1)]);

        let text = text(&drops, None);
        assert!(text.contains("denied: 14 packets. A rule says so."), "{text}");
        for said in [
            "the host",
            "b (default/shop)",
            "any port",
            "the kernel",
            "6 packets from default/shop: no egress rule of NetworkPolicy default/shop\n",
            "1 packet from default/shop: rule 7\n",
            "2 packets from any port: no egress rule of NetworkPolicy default/shop\n",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(!text.contains("1,000"), "{text}");
    }

    #[test]
    fn watched_drops_show_what_was_added() {
        let now = by_reason(
            vec![fate("a", Some("deny"), Some("denied"), 12)],
            Vec::new(),
            &BTreeMap::new(),
        );
        let before = BTreeMap::from([(place(&now[0].places[0].fate), 5)]);
        assert!(text(&now, Some(&before)).contains("+7"));
    }
}
