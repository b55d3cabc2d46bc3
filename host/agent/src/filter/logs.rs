//! `millrace filter logs`: what a filter says.

use clap::Args;

use crate::api::types::LogLine;
use crate::filter::about;
use crate::output::{Asking, Output, age, print};

/// Show what a filter says.
///
/// The last 1000 lines are kept; a filter that talks too much is cut short, and the loss is said.
#[derive(Args, Debug)]
#[command(after_help = "Example:
  millrace filter logs dns
  millrace filter logs dns --follow -o json")]
pub(crate) struct LogsArgs {
    /// The stage.
    name: String,
    /// Go on with the lines to come, until interrupted.
    #[arg(short, long)]
    follow: bool,
    /// Only lines behind this number.
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    #[command(flatten)]
    asking: Asking,
}

pub(super) fn run(args: &LogsArgs) -> anyhow::Result<()> {
    let client = args.asking.client()?;
    let path = about(&args.name, &format!("/logs?after={}", args.after));
    if !args.follow {
        let lines: Vec<LogLine> = client.get(&path)?;
        let text = |line: &LogLine| text(line) + "\n";
        return args.asking.print(&lines, |lines| lines.iter().map(text).collect());
    }
    let mut lines = client.lines(&format!("{path}&follow=true"))?;
    while let Some(line) = lines.next::<LogLine>()? {
        match args.asking.output() {
            Output::Table => print(&text(&line))?,
            Output::Json => print(&serde_json::to_string(&line)?)?,
        }
    }
    Ok(())
}

fn text(line: &LogLine) -> String {
    let level = format!("{:?}", line.level).to_lowercase();
    format!("{:>6}  {:>9} ago  {level:<5}  {}", line.sequence, age(line.age_ms), line.text)
}
