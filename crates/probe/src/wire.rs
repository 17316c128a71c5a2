//! Lines between the driver and `casemate-probe`: words with tabs between them.
//!
//! To the probe: `file`; `run ROLE ATTACK KEY=VALUE…`; `say WORD…` to who runs; `end`. From it: `up`, `file PATH`, `ready TOLD`,
//! `cannot WHY`, `done`, `got WHAT`, `nothing WHY`, `samples TOOK_US S,S,…`, `beats FAILED ALL P50_US WHY`, `held TOLD`; `gone` where who ran ended; `ended`.

use crate::attack::Args;

/// Which part is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Victim,
    /// A victim that does nothing: the negative control.
    Idle,
    Attacker,
}

impl Role {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Victim => "victim",
            Self::Idle => "idle",
            Self::Attacker => "attacker",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Victim, Self::Idle, Self::Attacker].into_iter().find(|role| role.name() == name)
    }
}

/// One word: no tab, no line end.
pub(crate) fn word(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

/// The words of a `run` line.
pub(crate) fn run(role: Role, attack: &str, args: &Args) -> String {
    let Args { mark, file, folder, small, secret_path, secret, box_socket, told, seed } = args;
    let pairs = [
        ("mark", mark),
        ("file", file),
        ("folder", folder),
        ("small", small),
        ("secret-path", secret_path),
        ("secret", secret),
        ("box-socket", box_socket),
        ("told", told),
    ];
    let mut line = format!("run\t{}\t{attack}\tseed={seed}", role.name());
    for (key, value) in pairs {
        line.push_str(&format!("\t{key}={}", word(value)));
    }
    line
}

/// The arguments among words; unknown keys are of another version and refused.
pub(crate) fn args<'a>(words: impl Iterator<Item = &'a str>) -> Option<Args> {
    let mut args = Args::default();
    for pair in words {
        let (key, value) = pair.split_once('=')?;
        let value = value.to_owned();
        match key {
            "mark" => args.mark = value,
            "file" => args.file = value,
            "folder" => args.folder = value,
            "small" => args.small = value,
            "secret-path" => args.secret_path = value,
            "secret" => args.secret = value,
            "box-socket" => args.box_socket = value,
            "told" => args.told = value,
            "seed" => args.seed = value.parse().ok()?,
            _ => return None,
        }
    }
    Some(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_round_trip_and_unknown_ones_are_refused() {
        let sent = Args {
            mark: "m1".into(),
            file: "/a b".into(),
            folder: "/c".into(),
            small: "/d".into(),
            secret_path: "/s".into(),
            secret: "x=y".into(),
            box_socket: String::new(),
            told: "4\n5".into(),
            seed: 7,
        };
        let line = run(Role::Victim, "keyring", &sent);
        let mut words = line.split('\t');
        assert_eq!(words.by_ref().take(3).collect::<Vec<_>>(), ["run", "victim", "keyring"]);
        assert_eq!(args(words), Some(Args { told: "4 5".into(), ..sent }));
        assert_eq!(args(["other=1"].into_iter()), None);
        assert_eq!(args(["seed=x"].into_iter()), None);
    }
}
