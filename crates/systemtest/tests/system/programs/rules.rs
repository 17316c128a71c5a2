//! Each system call rule is hit: what it allows reaches the kernel, what it answers itself gets exactly that answer.

use std::collections::BTreeMap;
use std::process::Command;

use casemate_composition::rules::SECCOMP_RULES;
use casemate_sys::seccomp::call_number;

use crate::programs::{log_of_all, present, project, service};
use crate::project::{COMMAND_BOUND, Project, run_bounded};

/// What nobody asks for: not a descriptor, not an address, not a flag.
const NOTHING: u64 = u64::MAX;
/// Error numbers (linux/asm-generic/errno-base.h, errno.h).
const ERRNOS: [(&str, u32); 6] = [
    ("EPERM", 1),
    ("EINVAL", 22),
    ("ENOSYS", 38),
    ("ENOPROTOOPT", 92),
    ("EOPNOTSUPP", 95),
    ("EAFNOSUPPORT", 97),
];
/// Families of sockets that must not be (linux/socket.h), as the issue names them, each as it is asked for.
const FAMILIES: [(&str, u64, u64); 8] = [
    ("ALG", 38, 5),
    ("VSOCK", 40, 1),
    ("PACKET", 17, 3),
    ("KEY", 15, 3),
    ("RXRPC", 33, 2),
    ("NETLINK", 16, 3),
    ("XDP", 44, 3),
    ("INET-RAW", 2, 3),
];

/// One attempt: the answer that a rule promises, and arguments that this rule is the first to hold for.
#[derive(Debug)]
struct Attempt {
    verb: String,
    code: u32,
    name: String,
    arguments: [u64; 6],
}

/// One for each call of each line.
fn attempts() -> Vec<Attempt> {
    let mut all = Vec::new();
    let mut earlier: BTreeMap<String, Vec<Vec<Condition>>> = BTreeMap::new();
    for line in SECCOMP_RULES.lines() {
        let line = line.split('#').next().unwrap().trim();
        if line.is_empty() {
            continue;
        }
        let (head, conditions) = line.split_once(" when ").unwrap_or((line, ""));
        let mut words = head.split_whitespace();
        let verb = words.next().unwrap();
        let code = match verb {
            "errno" => {
                let name = words.next().unwrap();
                ERRNOS.iter().find(|(known, _)| *known == name).unwrap().1
            }
            _ => 0,
        };
        let conditions: Vec<Condition> =
            conditions.split(" and ").filter(|text| !text.is_empty()).map(Condition::read).collect();
        for name in words {
            let before = earlier.entry(name.to_owned()).or_default();
            let arguments = arguments_for(name, &conditions, before);
            before.push(conditions.clone());
            all.push(Attempt { verb: verb.into(), code, name: name.into(), arguments });
        }
    }
    let families = FAMILIES.map(|(_, family, kind)| Attempt {
        verb: "errno".into(),
        code: 97,
        name: "socket".into(),
        arguments: [family, kind, 0, 0, 0, 0],
    });
    // Calls that no rule names: a kernel that lacks them answers the same.
    let unnamed = ["semget", "msgget", "mq_open", "acct", "vhangup", "modify_ldt", "iopl", "memfd_secret"];
    let unnamed = unnamed.map(|name| Attempt {
        verb: "errno".into(),
        code: 38,
        name: name.into(),
        arguments: [NOTHING; 6],
    });
    all.into_iter().chain(families).chain(unnamed).collect()
}

/// Arguments for which these conditions hold, and those of no earlier line about the same call.
fn arguments_for(name: &str, conditions: &[Condition], earlier: &[Vec<Condition>]) -> [u64; 6] {
    for others in [[NOTHING; 6], [NOTHING, 0, 0, 0, 0, 0], [0; 6]] {
        let mut arguments = others;
        if name == "futex" {
            // An operation that there is (FUTEX_WAKE): others answer as if there were no such call.
            arguments[1] = 1;
        }
        for condition in conditions {
            // Other bits of the same argument may be asked for by another condition, or not be set by an earlier line.
            arguments[condition.argument] = condition.value;
        }
        if !earlier.iter().any(|line| line.iter().all(|condition| condition.holds(&arguments))) {
            return arguments;
        }
    }
    panic!("{name}: every call that {conditions:?} holds for is answered by an earlier line");
}

/// `argN == VALUE` or `argN & MASK == VALUE`.
#[derive(Debug, Clone)]
struct Condition {
    argument: usize,
    mask: u64,
    value: u64,
}

impl Condition {
    fn read(text: &str) -> Self {
        let words: Vec<&str> = text.split_whitespace().collect();
        let argument = words[0].trim_start_matches("arg").parse().unwrap();
        match words.as_slice() {
            [_, "==", value] => Self { argument, mask: u32::MAX.into(), value: number(value) },
            [_, "&", mask, "==", value] => Self { argument, mask: number(mask), value: number(value) },
            _ => panic!("{text}"),
        }
    }

    fn holds(&self, arguments: &[u64; 6]) -> bool {
        arguments[self.argument] & self.mask == self.value
    }
}

fn number(text: &str) -> u64 {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).unwrap(),
        None => text.parse().unwrap(),
    }
}

/// The script with its attempts.
fn script(attempts: &[&Attempt]) -> String {
    let lines: Vec<String> = attempts
        .iter()
        .map(|a| {
            let number = call_number(&a.name).unwrap();
            let arguments = a.arguments.map(|argument| argument.to_string()).join(" ");
            format!("{} {} {} {number} {arguments}", a.verb, a.code, a.name)
        })
        .collect();
    format!("RULES = \"\"\"{}\"\"\"\n{}", lines.join("\n"), include_str!("rules.py"))
}

/// The answer to each attempt, in the order of the attempts.
fn answers(output: &str) -> Vec<String> {
    let answer = |line: &str| {
        let after = line.split_whitespace().skip_while(|word| !word.contains(',')).skip(1);
        let text = after.collect::<Vec<_>>().join(" ");
        (!text.is_empty()).then_some(text)
    };
    output.lines().filter_map(answer).collect()
}

#[test]
fn each_system_call_rule_answers_what_it_says() {
    if !present("system call rules", &["/usr/bin/python3.11"]) {
        return;
    }
    let all = attempts();
    let inside: Vec<&Attempt> = all.iter().collect();
    let services = [service("rules", "python3", &script(&inside), "")];
    let project = project("rules", &services, "");
    project.up();
    let log = log_of_all(&project, "rules");
    let found = answers(&log);
    assert_eq!(found.len(), all.len(), "{log}");
    project.down();
    let mut wrong = Vec::new();
    let mut absent = Vec::new();
    for (attempt, answer) in all.iter().zip(&found) {
        if attempt.verb == "allow" && answer == "38" {
            absent.push(attempt);
            continue;
        }
        let right = match attempt.verb.as_str() {
            "allow" => true,
            "pretend" => answer == "ok 0",
            _ => *answer == attempt.code.to_string(),
        };
        if !right {
            wrong.push(format!("{attempt:?} answers {answer}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // What is allowed and yet answers as if there were no such call, must answer so without a filter.
    for (attempt, answer) in absent.iter().zip(outside(&project, &absent)) {
        assert_eq!(answer, "38", "{attempt:?}");
        println!("not run: rule for {}: this kernel has no such call", attempt.name);
    }
    is_the_filters_doing(&project, &all);
}

/// The answers outside of compartments, to nobody.
fn outside(project: &Project, attempts: &[&Attempt]) -> Vec<String> {
    let file = project.file("outside.py");
    std::fs::write(&file, script(attempts)).unwrap();
    let mut command = Command::new("/usr/bin/python3.11");
    command.arg(&file).args(["as", "nobody"]);
    let output = run_bounded(&mut command, project.dir.path(), COMMAND_BOUND, None);
    output.assert_ok();
    let found = answers(&output.stdout);
    assert_eq!(found.len(), attempts.len(), "{}", output.stdout);
    found
}

/// The same calls outside of compartments, as nobody: where the kernel would have answered the same, the test above says
/// nothing. It must say something of most.
fn is_the_filters_doing(project: &Project, all: &[Attempt]) {
    let answered: Vec<&Attempt> = all.iter().filter(|attempt| attempt.verb != "allow").collect();
    let found = outside(project, &answered);
    let mut same = BTreeMap::new();
    for (attempt, answer) in answered.iter().zip(&found) {
        let by_rule = if attempt.verb == "pretend" { "ok 0".to_owned() } else { attempt.code.to_string() };
        if *answer == by_rule {
            same.insert(attempt.name.as_str(), answer.as_str());
        }
    }
    println!("answered alike outside, by the kernel itself: {same:?}");
    assert!(same.len() * 3 < answered.len(), "{same:?}");
}
