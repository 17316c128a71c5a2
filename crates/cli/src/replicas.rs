//! Services with replicas on the command line: how many there are to be, and which agents a name means.

use std::collections::BTreeMap;

use casemate_composition::lock::AgentName;
use clap::Args;

use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::project::Project;

/// How many agents run services, whatever the files say.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct ScaleOptions {
    /// Run a service N times, whatever the files say: its replicas are SERVICE-1 to SERVICE-N. Repeat for each service
    #[arg(long, value_name = "SERVICE=N", value_parser = scale)]
    scale: Vec<(AgentName, u32)>,
}

impl ScaleOptions {
    /// By service; of two for one service the last counts.
    pub(crate) fn by_service(&self) -> BTreeMap<AgentName, u32> {
        self.scale.iter().cloned().collect()
    }
}

fn scale(text: &str) -> Result<(AgentName, u32), String> {
    let parts = text.split_once('=');
    let read = parts.and_then(|(name, count)| Some((name.parse().ok()?, count.parse().ok()?)));
    read.ok_or_else(|| "write SERVICE=N, such as web=3".to_owned())
}

/// Which replica of a service.
#[derive(Args, Debug, Clone, Copy, Default)]
pub(crate) struct IndexOption {
    /// Of a service with replicas, the one with this number [default: the first]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    index: Option<u32>,
}

/// The agents that are named, each service with replicas as all of these; none where none is named.
pub(crate) fn named(project: &Project, names: &[AgentName]) -> Outcome<Vec<AgentName>> {
    if !project.lock_file().exists() {
        return Err(project.never_run());
    }
    let lock = inputs::read_lock(&project.lock_file())?;
    let mut agents = Vec::new();
    for name in names {
        let meant = lock.meant_by(name);
        if meant.is_empty() {
            let all: Vec<AgentName> = lock.agents.keys().cloned().collect();
            return Err(inputs::no_such_agent(name, &all));
        }
        agents.extend(meant);
    }
    // Both a service and one of its replicas may be named.
    let mut seen = std::collections::BTreeSet::new();
    agents.retain(|agent| seen.insert(agent.clone()));
    Ok(agents)
}

/// The one agent that is named. A service with replicas is not one.
pub(crate) fn one(project: &Project, name: &AgentName) -> Outcome<AgentName> {
    let all = named(project, std::slice::from_ref(name))?;
    match all.as_slice() {
        [only] => Ok(only.clone()),
        _ => Err(Failure::input(
            format!("{name} has {} replicas, and this is about one agent", all.len()),
            format!("name one of {}", all.iter().map(AgentName::as_str).collect::<Vec<_>>().join(", ")),
        )),
    }
}

/// The one agent that is named, or that replica of the service that is.
pub(crate) fn indexed(project: &Project, name: &AgentName, index: IndexOption) -> Outcome<AgentName> {
    let all = named(project, std::slice::from_ref(name))?;
    let number = index.index.unwrap_or(1);
    let place = usize::try_from(number).unwrap_or(usize::MAX).saturating_sub(1);
    all.get(place).cloned().ok_or_else(|| {
        Failure::input(
            format!("{name} has no replica {number}"),
            format!("`--index` is from 1 to {}", all.len()),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_is_a_service_and_a_number() {
        assert_eq!(scale("web=3"), Ok(("web".parse().unwrap(), 3)));
        for bad in ["web", "web=", "=3", "web=-1", "Web=1", "web=x"] {
            assert!(scale(bad).is_err(), "{bad}");
        }
    }
}
