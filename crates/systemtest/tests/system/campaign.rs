//! The fault campaign: SIGKILL of a random program at a random moment of a start, of a restart, or under traffic.
//!
//! After each round: no orphan, mount, control group or socket is left where the box ended; where it goes on, warden, gateway and
//! supervisor hold no more descriptors than at its beginning; every caller only ever hears the agent that it asked; the event log is
//! a chain that evidence is verified with. `cargo xtask faults --rounds 200 --seed N` makes a long run of it.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::census::{command_line, entries};
use crate::faults::FAULT_BOUND;
use crate::project::{COMMAND_BOUND, Project, agent};

/// Rounds where the environment names no other number.
const ROUNDS: u32 = 10;
/// Longest time between the beginning of what a round does and its fault.
const DELAY_MS_MAX: u64 = 900;
/// Which part of it goes by between a program's own start and its fault, in a round about the start.
const START_DELAY_PART: u32 = 3;
/// Time for descriptors of work in progress to be closed.
const SETTLE_BOUND: Duration = Duration::from_secs(15);
/// Descriptors above the beginning that work in progress may hold at the quietest moment, as it never stops. The gateway
/// keeps between 16 and 64 sockets in stock for each agent that is called.
const IN_USE_MAX: [usize; 3] = [3, 3 * 48 + 16, 3];
/// Restarts of an agent without traffic, where descriptors are counted exactly.
const RESTARTS: u32 = 8;
/// Looks at the descriptors, for the quietest moment.
const LOOKS: usize = 20;
const POLL: Duration = Duration::from_millis(20);
/// Programs that live as long as the box.
const LONG_LIVED: [&str; 3] = ["casemate-warden", "casemate-gateway", "box-supervisor"];

/// Who dies.
const VICTIMS: [&str; 8] = [
    "casemate-warden",
    "casemate-gateway",
    "casemate-courier",
    "casemate-launcher",
    "casemate-broker",
    "casemate-emulator",
    "box-supervisor",
    AGENT,
];
const AGENT: &str = "agent";

/// When it dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Start,
    Restart,
    Traffic,
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same seed gives the same campaign.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

fn number(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap())
}

/// Three agents that answer with their names, and two that call all of them.
fn services() -> String {
    let again = "deploy: { restart_policy: { condition: any, delay: 100ms } }";
    let server = |name: &str, port: u16| {
        let (serve, more) =
            (format!("serve {port} {name}"), format!("expose: [\"{port}\"]\nsecrets: [marker]\n{again}"));
        agent(name, &[&serve, "wait"], &more)
    };
    let traffic = "traffic alpha:8081=alpha beta:8082=beta gamma:8083=gamma";
    let caller = |name: &str| {
        let more =
            format!("x-casemate: {{ talks-to: [\"alpha:8081\", \"beta:8082\", \"gamma:8083\"] }}\n{again}");
        agent(name, &[traffic], &more)
    };
    [server("alpha", 8081), server("beta", 8082), server("gamma", 8083), caller("one"), caller("two")]
        .concat()
}

#[test]
fn whatever_dies_at_whatever_moment_nothing_leaks_and_nobody_is_cross_wired() {
    let (rounds, seed) = (number("CASEMATE_FAULTS_ROUNDS", ROUNDS), number("CASEMATE_FAULTS_SEED", 1));
    let mut random = Random(seed.into());
    let project = Project::ready("campaign", &services(), &[("marker", "m")]);
    let mut campaign = Campaign { project, baseline: Vec::new() };
    let mut counts = [0_u32; 2];
    for round in 1..=rounds {
        let moment = random.of(&[Moment::Start, Moment::Restart, Moment::Traffic]);
        let victim = random.of(&VICTIMS);
        let delay = Duration::from_millis(random.below(DELAY_MS_MAX));
        let what = format!("seed {seed}, round {round}: {victim} at {moment:?} after {delay:?}");
        let reported = Report(what);
        let hit = campaign.project_round(moment, victim, delay, &mut random);
        counts[usize::from(hit)] += 1;
        println!("{}{}", reported.0, if hit { "" } else { " (it did not run then)" });
        std::mem::forget(reported);
    }
    println!(
        "{rounds} rounds with seed {seed}: {} faults, {} times the program did not run then",
        counts[1], counts[0]
    );
    campaign.project.down();
}

#[test]
fn restarts_of_an_agent_leave_not_one_descriptor_behind() {
    let again = "deploy: { restart_policy: { condition: any, delay: 100ms } }";
    let quiet = agent(
        "quiet",
        &["wait"],
        &format!("x-casemate: {{ talks-to: [\"peer:8081\"] }}\nsecrets: [marker]\n{again}"),
    );
    let peer = agent("peer", &["serve 8081 peer", "wait"], "expose: [\"8081\"]");
    let project = Project::ready("descriptors", &format!("{quiet}{peer}"), &[("marker", "m")]);
    let mut campaign = Campaign { project, baseline: Vec::new() };
    campaign.project.up();
    // The first restart may begin what stays: a session of the courier, a thread.
    for instance in 2..RESTARTS + 2 {
        let before = campaign.project.ps()["agents"]["quiet"]["pid"].as_u64().unwrap();
        assert!(kill_if_there(u32::try_from(before).unwrap()));
        campaign.project.wait_for_agent("quiet", "started again", |agent| {
            agent["instance"] == instance && agent["phase"] == "healthy"
        });
        let end = Instant::now() + SETTLE_BOUND;
        // Fewer than then are none that leaked: the first look may have met one on its way out.
        let more = |now: &[usize], then: &[usize]| now.iter().zip(then).any(|(now, then)| now > then);
        while more(&campaign.descriptors(), &campaign.baseline) {
            let now = campaign.descriptors();
            assert!(Instant::now() < end, "{now:?}, after the first restart {:?}", campaign.baseline);
        }
        if campaign.baseline.is_empty() {
            campaign.baseline = campaign.descriptors();
        }
    }
    campaign.project.down();
}

/// Tells the round where a test panics.
struct Report(String);

impl Drop for Report {
    fn drop(&mut self) {
        eprintln!("failed in {}", self.0);
    }
}

struct Campaign {
    project: Project,
    /// Descriptors of the long-lived programs at the beginning of the box that runs; empty where none does.
    baseline: Vec<usize>,
}

impl Campaign {
    /// One fault and what comes of it. Whether there was something to kill.
    fn project_round(
        &mut self,
        moment: Moment,
        victim: &'static str,
        delay: Duration,
        random: &mut Random,
    ) -> bool {
        let hit = match moment {
            Moment::Start => {
                self.end_in_order();
                let up = self.project.spawn(&["up", "-d", "--progress", "plain"]);
                self.wait_for(victim);
                let hit = self.kill_after(victim, delay / START_DELAY_PART, random);
                let output = up.wait(2 * COMMAND_BOUND);
                // Refused, failed, or not hit by it: two lines or five, never a panic.
                assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
                if !output.status.success() {
                    assert!(
                        matches!(output.status.code(), Some(1 | 3)),
                        "{}{}",
                        output.status,
                        output.stderr
                    );
                    assert!(matches!(output.report().len(), 2 | 4 | 5), "{}", output.stderr);
                }
                hit
            }
            Moment::Restart => {
                self.running();
                assert!(self.agent_process(random).is_some_and(kill_if_there), "no agent runs");
                self.kill_after(victim, delay, random)
            }
            Moment::Traffic => {
                self.running();
                self.kill_after(victim, delay, random)
            }
        };
        self.settle(hit && victim != AGENT && victim != "casemate-courier" && victim != "casemate-launcher");
        hit
    }

    /// A box that runs, and what it holds at its beginning.
    fn running(&mut self) {
        if !self.baseline.is_empty() {
            return;
        }
        self.project.up();
        for name in ["one", "two"] {
            self.project.logs_with(name, "called");
        }
        self.baseline = self.descriptors();
    }

    fn end_in_order(&mut self) {
        self.look_at_answers();
        if !std::mem::take(&mut self.baseline).is_empty() {
            self.project.down();
        }
    }

    /// After a fault: the box ended and nothing is left, or it goes on as before.
    fn settle(&mut self, ends: bool) {
        let end = Instant::now() + FAULT_BOUND;
        while ends && self.supervisor_runs() && Instant::now() < end {
            std::thread::sleep(POLL);
        }
        self.look_at_answers();
        if !self.supervisor_runs() {
            self.baseline.clear();
            // The next command cleans what a killed supervisor left.
            self.project.run(&["down", "-t", "0"]);
            self.project.assert_nothing_left();
            return;
        }
        let fresh = self.baseline.is_empty();
        for name in ["alpha", "beta", "gamma", "one", "two"] {
            self.project.wait_for_agent(name, "running", |agent| {
                agent["pid"].is_number() && agent["phase"] == "healthy"
            });
        }
        self.project.attest("alpha", "nonce-one", "e.json").assert_ok();
        // The log in evidence, against the register of the emulated hardware.
        self.project.run(&["verify", "e.json", "--nonce", "nonce-one"]).assert_ok();
        if fresh {
            self.baseline = self.descriptors();
            return;
        }
        let end = Instant::now() + SETTLE_BOUND;
        loop {
            let now = self.descriptors();
            let bounds = self.baseline.iter().zip(IN_USE_MAX).map(|(before, in_use)| before + in_use);
            if now.iter().zip(bounds).all(|(now, most)| *now <= most) {
                return;
            }
            assert!(
                Instant::now() < end,
                "descriptors of {LONG_LIVED:?}: {now:?}, at the beginning {:?}",
                self.baseline
            );
        }
    }

    /// Nobody heard another agent than the one that was asked, and the log is whole.
    fn look_at_answers(&self) {
        for name in ["one", "two"] {
            let log = fs::read_to_string(self.project.project_dir().join("logs").join(format!("{name}.log")));
            let log = log.unwrap_or_default();
            let crossed: Vec<&str> = log.lines().filter(|line| line.contains("CROSSED")).collect();
            assert!(crossed.is_empty(), "{crossed:?}");
        }
        if self.project.project_dir().join("events.jsonl").exists() {
            self.project.run(&["events"]).assert_ok();
        }
    }

    fn supervisor_runs(&self) -> bool {
        self.is_running("box-supervisor")
    }

    /// How many descriptors the long-lived programs hold, each at its quietest moment.
    fn descriptors(&self) -> Vec<usize> {
        let mut least = vec![usize::MAX; LONG_LIVED.len()];
        for _ in 0..LOOKS {
            for (program, least) in LONG_LIVED.iter().zip(&mut least) {
                let pid = self.project.pid_of(program);
                *least = (*least).min(entries(format!("/proc/{pid}/fd").as_ref()).len());
            }
            std::thread::sleep(POLL);
        }
        least
    }

    /// Waits until the program runs, at most as long as a start may take.
    fn wait_for(&self, victim: &'static str) {
        let end = Instant::now() + FAULT_BOUND;
        let runs = || match victim {
            AGENT => !self.agent_processes().is_empty(),
            // It is waited for where it is killed, as it lives for some milliseconds.
            "casemate-launcher" => self.is_running("casemate-gateway"),
            program => self.is_running(program),
        };
        while !runs() && Instant::now() < end {
            std::thread::sleep(POLL);
        }
    }

    fn is_running(&self, program: &str) -> bool {
        self.project.processes().into_iter().any(|pid| is_program(pid, program))
    }

    fn kill_after(&self, victim: &'static str, delay: Duration, random: &mut Random) -> bool {
        std::thread::sleep(delay);
        if victim == AGENT {
            return self.agent_process(random).is_some_and(kill_if_there);
        }
        // A launcher lives for some milliseconds: wait for one, in vain where none is needed.
        let end = Instant::now() + Duration::from_millis(if victim == "casemate-launcher" { 400 } else { 0 });
        loop {
            let found = self.project.processes().into_iter().find(|pid| is_program(*pid, victim));
            if let Some(pid) = found {
                return kill_if_there(pid);
            }
            if Instant::now() >= end {
                return false;
            }
        }
    }

    /// The first processes of the agents that `ps` knows.
    fn agent_processes(&self) -> Vec<u32> {
        let output = self.project.run(&["--json", "ps"]);
        let status: serde_json::Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let agents = status["agents"].as_object().cloned().unwrap_or_default();
        agents.values().filter_map(|agent| u32::try_from(agent["pid"].as_u64()?).ok()).collect()
    }

    /// One of them; none where none runs.
    fn agent_process(&self, random: &mut Random) -> Option<u32> {
        let all = self.agent_processes();
        (!all.is_empty()).then(|| random.of(&all))
    }
}

fn is_program(pid: u32, program: &str) -> bool {
    let line = command_line(pid);
    let mut words = line.split(' ');
    words.next().is_some_and(|first| first.ends_with(program)) || words.next() == Some(program)
}

/// Whether it was there to be killed.
fn kill_if_there(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).unwrap();
    kill_process(pid, Signal::KILL).is_ok()
}
