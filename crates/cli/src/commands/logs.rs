//! `casemate logs`: what agents wrote.

use casemate_composition::lock::AgentName;
use clap::Args;
use jiff::{SignedDuration, Timestamp};

use crate::cli::Global;
use crate::failure::Outcome;
use crate::follow::{Follower, LineStyle, POLL, Shown, Wanted, chosen_agents};
use crate::lines;
use crate::project::Project;
use crate::supervisor::Lease;

/// What `logs` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate logs -f --tail 20 researcher")]
pub(crate) struct LogsArgs {
    /// Go on with new lines until the project stops
    #[arg(short, long)]
    follow: bool,
    /// Only this many lines of each agent, or `all`
    #[arg(long, short = 'n', value_name = "N", value_parser = tail)]
    tail: Option<Tail>,
    /// Only lines since then: a time such as 2026-11-28T07:00:00Z, or how long ago, such as 10m or 1h30m
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Only lines before then, written likewise
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Show when each line arrived, by the box's clock
    #[arg(short, long)]
    timestamps: bool,
    /// Leave out the agents' names
    #[arg(long)]
    no_log_prefix: bool,
    /// Only these agents
    #[arg(value_name = "AGENT")]
    agents: Vec<AgentName>,
}

/// How many lines to begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    All,
    Lines(usize),
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        text => text.parse().map(Tail::Lines).map_err(|_| "write a number or `all`".to_owned()),
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let wanted = || "write a time such as 2026-11-28T07:00:00Z, or how long ago, such as 10m".to_owned();
    let ago: SignedDuration = text.parse().map_err(|_| wanted())?;
    Timestamp::now().checked_sub(ago).map_err(|_| wanted())
}

/// Prints logs.
pub(crate) fn run(global: &Global, args: &LogsArgs) -> Outcome {
    let project = Project::find(global)?;
    let agents = chosen_agents(&project, &args.agents)?;
    let wanted = Wanted {
        tail: args.tail.and_then(|tail| match tail {
            Tail::All => None,
            Tail::Lines(count) => Some(count),
        }),
        since: args.since,
        until: args.until,
    };
    let shown = |shown| if shown { Shown::Yes } else { Shown::No };
    let style = if global.json {
        LineStyle::Json
    } else {
        LineStyle::Text { prefix: shown(!args.no_log_prefix), times: shown(args.timestamps) }
    };
    let mut follower = Follower::new(&project, &agents, wanted, style);
    while follower.print_new() && !lines::output_ended() {}
    let over = || args.until.is_some_and(|until| Timestamp::now() >= until);
    while args.follow && !over() && !lines::output_ended() && Lease::take(&project)?.is_none() {
        std::thread::sleep(POLL);
        follower.print_new();
    }
    follower.print_rest();
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        assert_eq!(moment("2026-11-28T07:00:00Z").unwrap().to_string(), "2026-11-28T07:00:00Z");
        let then = moment("1h30m").unwrap();
        let ago = Timestamp::now().duration_since(then);
        assert!((5400..5460).contains(&ago.as_secs()), "{ago:?}");
        for bad in ["", "yesterday", "2026-11-28", "m10"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
        assert_eq!((tail("all"), tail("3")), (Ok(Tail::All), Ok(Tail::Lines(3))));
        assert!(tail("-1").is_err());
    }
}
