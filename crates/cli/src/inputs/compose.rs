//! The Compose file, and what it resolves to.

use std::collections::BTreeMap;

use casemate_composition::compose::RelyingParty;
use casemate_composition::load::{Interpolation, Loaded};
use casemate_composition::lock::{AgentName, ImagePin};
use casemate_composition::one_off::OneOff;
use casemate_composition::{Compose, ImageFacts, Lock, Problems};
use casemate_images::{ImageError, ImageInfo};

use crate::failure::{Failure, Outcome};
use crate::inputs;
use crate::project::{ComposeFile, Project};

/// Grace time where the lock cannot be read.
const GRACE_MS_DEFAULT: u64 = 10_000;

/// What a composition says to whoever verifies.
pub(crate) fn relying_party(file: &ComposeFile) -> Outcome<RelyingParty> {
    file.relying_party().map_err(failure_of)
}

/// Loads a composition.
pub(crate) fn load(file: &ComposeFile, interpolation: Interpolation) -> Outcome<Loaded> {
    file.load(interpolation).map_err(|problems| problems.map_or_else(|failure| failure, failure_of))
}

/// Reads a composition.
pub(crate) fn parse(file: &ComposeFile) -> Outcome<Compose> {
    of_loaded(load(file, Interpolation::Done)?)
}

fn of_loaded(loaded: Loaded) -> Outcome<Compose> {
    loaded.into_compose().ok_or_else(|| Failure::input("composition has no model", "report this as a bug"))
}

/// The lock that a Compose file resolves to with the images of the local store.
pub(crate) fn resolve(file: &ComposeFile, project: &Project) -> Outcome<Lock> {
    let loaded = load(file, Interpolation::Done)?;
    file.warn(&loaded);
    let compose = inputs::with_sandboxes(of_loaded(loaded)?)?;
    compose.resolve(&image_facts(&compose, project)?).map_err(failure_of)
}

/// The lock of one agent of `service` with another command, and of those that it depends on.
pub(crate) fn resolve_one_off(
    file: &ComposeFile,
    project: &Project,
    service: &AgentName,
    change: &OneOff,
) -> Outcome<Lock> {
    let loaded = load(file, Interpolation::Done)?;
    file.warn(&loaded);
    let compose = of_loaded(loaded)?;
    let all: Vec<AgentName> = compose.agents().cloned().collect();
    let compose = compose.one_off(service, change).ok_or_else(|| no_such_agent(service, &all))?;
    let compose = inputs::with_sandboxes(compose)?;
    compose.resolve(&image_facts(&compose, project)?).map_err(failure_of)
}

/// What the store knows of each image. One that it does not know is left out: resolving says where it is named.
fn image_facts(compose: &Compose, project: &Project) -> Outcome<BTreeMap<String, ImageFacts>> {
    inputs::make_dir(&project.home.0)?;
    let store = inputs::open_store(&project.home)?;
    let mut facts = BTreeMap::new();
    for reference in compose.images() {
        match store.info(wanted_of(reference)) {
            Ok(info) => drop(facts.insert(reference.to_owned(), facts_of(info))),
            Err(ImageError::NotFound { .. } | ImageError::Reference { .. }) => {}
            Err(error) => return Err(inputs::image_failure(&error)),
        }
    }
    Ok(facts)
}

/// What the store is asked for: a digest in the reference decides alone.
pub(crate) fn wanted_of(reference: &str) -> &str {
    reference.split_once('@').map_or(reference, |(_, digest)| digest)
}

fn facts_of(info: ImageInfo) -> ImageFacts {
    ImageFacts {
        pin: ImagePin { manifest: info.manifest, config: info.config, rootfs: info.rootfs },
        entrypoint: info.entrypoint,
        command: info.command,
        environment: info.environment,
        working_dir: info.working_dir,
        user: info.user,
    }
}

/// Everything that is wrong with a composition.
pub(crate) fn failure_of(problems: Problems) -> Failure {
    let mut all = problems.into_iter().map(|problem| {
        let what = format!("{}:{}:{}: {}", problem.file, problem.line, problem.column, problem.what);
        Failure { excerpt: problem.excerpt_lines(), ..Failure::input(what, &problem.todo) }
    });
    // There is always a first one.
    let mut failure = all.next().unwrap_or_else(|| Failure::input("unusable", "report this as a bug"));
    failure.more = all.collect();
    failure
}

/// The longest grace time of an agent of the lock that runs.
pub(crate) fn longest_grace_ms(project: &Project) -> u64 {
    inputs::read_lock(&project.lock_file())
        .ok()
        .and_then(|lock| lock.agents.values().map(|agent| agent.stop.grace_ms).max())
        .unwrap_or(GRACE_MS_DEFAULT)
}

/// No agent has this name.
pub(crate) fn no_such_agent(agent: &AgentName, all: &[AgentName]) -> Failure {
    let names: Vec<&str> = all.iter().map(AgentName::as_str).collect();
    Failure::input(format!("no agent `{agent}`"), format!("agents are {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_shows_its_line_between_what_and_what_to_do() {
        let text = "name: t\nservices:\n  a:\n    imgae: x\n";
        let problems = casemate_composition::compose::parse("c.yaml", text, &BTreeMap::new()).unwrap_err();
        let text = failure_of(problems).to_string();
        let expected = "error: c.yaml:3:3: service `a` has no image\n  \
                          3 |   a:\n    \
                            |   ^\n\
                        to do: write image: name:tag\n\
                        error: c.yaml:4:5: unknown key `imgae` in service, did you mean `image`?\n  \
                          4 |     imgae: x\n    \
                            |     ^^^^^\n\
                        to do: correct or remove it\n";
        assert_eq!(text, expected);
    }
}
