//! Landlock: from `ACCESS PATH` lines to a ruleset on the calling thread.

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

/// The interface version whose rights are all handled.
const VERSION: ABI = ABI::V6;

/// Why the rules are not in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LandlockError {
    /// A line is not a rule.
    #[error("`{text}` is not a Landlock rule")]
    Rule {
        /// The line.
        text: String,
    },
    /// The kernel does not have what the rules need.
    #[error("the kernel's Landlock lacks what the rules need (interface version 6): {reason}")]
    Kernel {
        /// What the library said.
        reason: String,
    },
}

/// Restricts the calling thread to these rules.
///
/// # Errors
/// [`LandlockError`]; then nothing is restricted.
pub fn restrict(lines: &[String]) -> Result<(), LandlockError> {
    let kernel = |reason: &dyn std::fmt::Display| LandlockError::Kernel { reason: reason.to_string() };
    let mut scopes: BitFlags<Scope> = BitFlags::empty();
    let mut paths = Vec::new();
    for line in lines {
        let bad = || LandlockError::Rule { text: line.clone() };
        let (access, object) = line.split_once(' ').ok_or_else(bad)?;
        match (access, object) {
            ("scope", "signal") => scopes |= Scope::Signal,
            ("scope", "abstract-unix-socket") => scopes |= Scope::AbstractUnixSocket,
            (access, path) if path.starts_with('/') => paths.push((rights(access).ok_or_else(bad)?, path)),
            _ => return Err(bad()),
        }
    }
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(VERSION))
        .and_then(|r| r.scope(scopes))
        .map_err(|e| kernel(&e))?;
    let mut created = ruleset.create().map_err(|e| kernel(&e))?;
    for (access, path) in paths {
        let descriptor = PathFd::new(path).map_err(|e| kernel(&e))?;
        // On a file, only the rights that a file can have.
        let is_dir = std::fs::metadata(path).is_ok_and(|m| m.is_dir());
        let access = if is_dir { access } else { access & AccessFs::from_file(VERSION) };
        created = created.add_rule(PathBeneath::new(descriptor, access)).map_err(|e| kernel(&e))?;
    }
    let status = created.restrict_self().map_err(|e| kernel(&e))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        _ => Err(kernel(&"the ruleset is not fully enforced")),
    }
}

fn rights(name: &str) -> Option<BitFlags<AccessFs>> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::WriteFile | AccessFs::Truncate;
    match name {
        "read" => Some(read),
        "write" => Some(write),
        "read-write" => Some(read | write | AccessFs::IoctlDev),
        "read-execute" => Some(read | AccessFs::Execute),
        "all" => Some(
            AccessFs::from_all(VERSION) & !AccessFs::IoctlDev & !AccessFs::MakeBlock & !AccessFs::MakeChar,
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_lines_that_are_not_rules() {
        for bad in ["read", "read relative", "steal /", "scope everything", ""] {
            assert_eq!(
                restrict(&[bad.to_owned()]),
                Err(LandlockError::Rule { text: bad.to_owned() }),
                "{bad}"
            );
        }
    }

    #[test]
    fn restricts_a_thread_to_what_is_named() {
        let dir = std::env::temp_dir();
        let outcome = std::thread::spawn(move || {
            let rules =
                ["read-execute /usr".to_owned(), format!("all {}", dir.display()), "scope signal".to_owned()];
            match restrict(&rules) {
                Ok(()) => Some((
                    std::fs::read_dir("/usr").is_ok(),
                    std::fs::read("/etc/passwd").is_ok(),
                    std::fs::write("/usr/casemate-test", "x").is_ok(),
                )),
                Err(LandlockError::Kernel { .. }) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .join()
        .unwrap();
        match outcome {
            Some(seen) => assert_eq!(seen, (true, false, false)),
            None => println!("not run: this kernel has no Landlock interface version 6"),
        }
    }
}
