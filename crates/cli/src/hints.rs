//! Words of Compose's command line that are none of ours: what does that here, or that there is no such thing, and why.
//!
//! Data: a test sees to it that no hint is about something that there is.

/// Command (empty for all), flag, what to do.
type Flag = (&'static str, &'static str, &'static str);
/// Command, what to do.
type Command = (&'static str, &'static str);

/// A flag of a command of Compose, and what is said to it. An empty command stands for any.
const FLAGS: &[Flag] = &[
    ("", "--project-name", "write -p NAME or --project NAME"),
    ("", "--ansi", "colours are used on a terminal alone; `--progress plain` of `up` has none"),
    ("", "--no-color", "nothing is coloured: leave it out"),
    ("", "--no-ansi", "nothing is coloured: leave it out"),
    ("", "--compatibility", "there is one form of names: leave it out"),
    ("", "--parallel", "agents start in parallel as `depends_on` allows: leave it out"),
    ("", "--dry-run", "`casemate plan` shows what `up` would change"),
    ("", "--all-resources", "`casemate config` shows all that the files declare"),
    (
        "",
        "--verbose",
        "each program of the box writes a log: `box-*.txt` in the folder `logs` of the project",
    ),
    ("", "--detach-keys", "Ctrl-P Ctrl-Q leaves a terminal; others cannot be chosen"),
    ("", "--no-trunc", "`--json` has everything in full"),
    ("up", "--build", BUILD),
    ("up", "--no-build", "nothing is ever built: leave it out"),
    ("up", "--quiet-build", "nothing is ever built: leave it out"),
    ("up", "--quiet-pull", "`--progress plain` says little"),
    ("up", "--no-recreate", "agents that run are never replaced by `up`: leave it out"),
    ("up", "--always-recreate-deps", "`casemate up --force-recreate` starts the whole box anew"),
    (
        "up",
        "--renew-anon-volumes",
        "no volume is without a name; `casemate down -v` removes those of the project",
    ),
    ("up", "-V", "no volume is without a name; `casemate down -v` removes those of the project"),
    ("up", "--no-start", "`casemate lock` resolves and starts nothing"),
    ("up", "--timeout", "`casemate down -t SECONDS` and `casemate stop -t SECONDS` have the grace time"),
    ("up", "-t", "`casemate down -t SECONDS` and `casemate stop -t SECONDS` have the grace time"),
    ("up", "--timestamps", "`casemate up -d`, then `casemate logs -f --timestamps`"),
    ("up", "--no-log-prefix", "`casemate up -d`, then `casemate logs -f --no-log-prefix`"),
    ("up", "--no-attach", "`casemate up -d`, then `casemate logs -f AGENT` of those to see"),
    ("up", "--attach", "`casemate up -d`, then `casemate logs -f AGENT` of those to see"),
    ("up", "--attach-dependencies", "the output of all agents is shown: leave it out"),
    ("up", "--abort-on-container-exit", WHEN_ONE_ENDS),
    ("up", "--abort-on-container-failure", WHEN_ONE_ENDS),
    ("up", "--exit-code-from", WHEN_ONE_ENDS),
    ("up", "--watch", "files are not watched: import the image again, then `casemate up --force-recreate`"),
    ("up", "-w", "files are not watched: import the image again, then `casemate up --force-recreate`"),
    ("up", "--menu", "there is none: leave it out"),
    ("up", "--yes", "nothing is asked: leave it out"),
    ("up", "-y", "nothing is asked: leave it out"),
    ("down", "--rmi", "`casemate image rm NAME`, then `casemate image gc`"),
    (
        "ps",
        "--services",
        "`casemate ps -q` has the names of agents, `casemate config --services` those of services",
    ),
    ("ps", "--filter", "`casemate ps --status STATE`"),
    ("ps", "--orphans", "no agent outlives its composition: leave it out"),
    ("ps", "--no-orphans", "no agent outlives its composition: leave it out"),
    ("exec", "--detach", "a command ends with who ran it; run it in the background of your shell"),
    ("exec", "-d", "a command ends with who ran it; run it in the background of your shell"),
    ("exec", "--privileged", "a command has what its agent has, and nothing more"),
    ("cp", "--archive", "owners are those of who copies: leave it out"),
    ("cp", "-a", "owners are those of who copies: leave it out"),
    ("cp", "--follow-link", "links are not followed: name the file that it leads to"),
    ("cp", "-L", "links are not followed: name the file that it leads to"),
    ("stop", "--no-deps", "`stop` ends those that are named: leave it out"),
    ("kill", "--remove-orphans", "no agent outlives its composition: leave it out"),
    ("wait", "--down-project", "`casemate wait AGENT; casemate down`"),
];

/// A command of Compose, and what is said to it.
const COMMANDS: &[Command] = &[
    ("build", BUILD),
    ("pull", "`casemate image pull`, or `casemate up --pull missing`"),
    ("push", "images come from registries and go to none"),
    ("images", "`casemate image ls`, and `casemate config --images` for those of the files"),
    ("create", "`casemate lock` resolves and starts nothing"),
    ("rm", "an agent that does not run leaves nothing behind; `casemate down -v` removes volumes"),
    ("ls", "`casemate ps` in the folder of a project, or with -p NAME"),
    ("version", "`casemate --version`"),
    ("convert", "`casemate config`"),
    ("watch", "files are not watched: import the image again, then `casemate up --force-recreate`"),
    ("export", "`casemate cp AGENT:PATH .` copies files of an agent"),
    ("commit", "what runs is what was measured: change the image, and lock anew"),
    ("volumes", "`casemate config` shows them; they lie in the folder `volumes` of the project"),
    ("publish", "`compose.lock` and the images by digest are what is handed on"),
];

const BUILD: &str =
    "no image is built here: build it with another tool, then `casemate image import NAME --tar FILE`";
const WHEN_ONE_ENDS: &str =
    "`casemate up -d`, then `casemate wait AGENT`, which ends with the agent's status, and `casemate down`";

/// What is said to a flag that this command does not take.
pub(crate) fn of_flag(command: &str, flag: &str) -> Option<&'static str> {
    let flag = flag.split('=').next().unwrap_or(flag);
    let found = FLAGS.iter().find(|(of, known, _)| (of.is_empty() || *of == command) && *known == flag);
    found.map(|(_, _, hint)| *hint)
}

/// What is said to a command that there is not.
pub(crate) fn of_command(command: &str) -> Option<&'static str> {
    COMMANDS.iter().find(|(known, _)| *known == command).map(|(_, hint)| *hint)
}

#[cfg(test)]
pub(crate) fn all() -> (&'static [Flag], &'static [Command]) {
    (FLAGS, COMMANDS)
}
