//! Commands that run in a compartment at a moment of its agent's life: `post_start` and `pre_stop`.

use std::collections::BTreeMap;

use crate::keys;
use crate::lock::Hook;
use crate::problem::Findings;
use crate::yaml::Node;

use super::read::{self, list, walk};
use super::run;

/// Most hooks of one moment.
const HOOKS_MAX: usize = 16;
/// Most bytes of the command and the variables of one hook, as of an agent's.
const ARGUMENTS_BYTES_MAX: usize = 64 << 10;

/// `post_start` or `pre_stop`.
pub(crate) fn hooks(
    node: &Node,
    key: &str,
    variables: &BTreeMap<String, String>,
    f: &mut Findings<'_>,
) -> Vec<Hook> {
    let table = if key == "post_start" { &keys::POST_START } else { &keys::PRE_STOP };
    let items = list(node, key, f);
    if items.len() > HOOKS_MAX {
        f.problem(node.place, format!("more than {HOOKS_MAX} hooks"), "do it in one script of the image");
    }
    items.iter().filter_map(|item| hook(item, table, variables, f)).collect()
}

fn hook(
    node: &Node,
    table: &keys::Table,
    variables: &BTreeMap<String, String>,
    f: &mut Findings<'_>,
) -> Option<Hook> {
    let mut hook = Hook { command: Vec::new(), user: None, working_dir: None, environment: BTreeMap::new() };
    // What is wrong with a command that is there was said where it stands.
    let mut told = false;
    walk(table, node, f, |f, key, member| {
        let node = &member.node;
        match key {
            "command" => {
                let read = run::command(node, key, f);
                told = read.is_none() && !node.is_null();
                hook.command = read.unwrap_or_default();
            }
            "user" => hook.user = run::user(node, f),
            "working_dir" => {
                let read = read::parsed(node, key, "an absolute path", f, read::absolute_path);
                hook.working_dir = read.map(|at| at.value);
            }
            _ => {
                let pairs = read::pairs(node, key, variables, f).into_iter();
                hook.environment = pairs.map(|(name, at)| (name, at.value)).collect();
            }
        }
    });
    let words = hook.command.iter().map(String::len);
    let pairs = hook.environment.iter().map(|(name, value)| name.len().saturating_add(value.len()));
    let bytes = words.chain(pairs).fold(0_usize, |sum, size| sum.saturating_add(size).saturating_add(2));
    if hook.command.first().is_none_or(String::is_empty) {
        if !told {
            f.problem(node.place, "hook has no command", "write command: [\"program\", \"argument\"]");
        }
        return None;
    }
    if bytes > ARGUMENTS_BYTES_MAX {
        let what = format!("command and environment of a hook are longer than {ARGUMENTS_BYTES_MAX} bytes");
        f.problem(node.place, what, "shorten them");
    }
    Some(hook)
}
