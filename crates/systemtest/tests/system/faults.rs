//! Faults: whatever dies, fills or is interrupted, nothing is left, and a second `up` works.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::image;
use crate::project::{COMMAND_BOUND, Project, agent, dist, kill, run_bounded};

/// Time in which a fault must show.
pub(crate) const FAULT_BOUND: Duration = Duration::from_secs(30);

fn two_agents() -> String {
    let keeper = agent("keeper", &["secret marker", "wait"], "secrets: [marker]");
    format!("{keeper}{}", agent("other", &["say here", "wait"], ""))
}

/// A project of two agents, one of them with a secret.
pub(crate) fn project(name: &str) -> Project {
    Project::ready(name, &two_agents(), &[("marker", "m")])
}

/// Nothing is left, and the project starts as if nothing had been.
pub(crate) fn second_up_works(project: &Project) {
    project.assert_nothing_left();
    project.up();
    project.logs_with("other", "here");
    project.down();
}

#[test]
fn an_agent_that_crashes_is_started_again_as_its_policy_says() {
    let flaky = agent("flaky", &["crash-until 3 7", "say stands", "wait"], "restart: on-failure:5");
    let hopeless = agent("hopeless", &["sleep 300", "exit 9"], "restart: on-failure:2");
    let ended = agent("ended", &["sleep 300", "exit 4"], "restart: \"no\"");
    let project = Project::ready("crash", &format!("{flaky}{hopeless}{ended}"), &[]);
    project.up();
    let logs = project.logs_with("flaky", "stands");
    for start in ["start 1", "start 2", "start 3"] {
        assert!(logs.contains(start), "{logs}");
    }
    let flaky = project.wait_for_agent("flaky", "running", |agent| agent["pid"].is_number());
    assert_eq!(flaky["instance"], 3, "{flaky}");
    project.wait_for_agent("hopeless", "ended after three starts", |agent| {
        agent["instance"] == 3 && agent["exit_status"] == 9 && agent["phase"] == "exited"
    });
    project.wait_for_agent("ended", "ended", |agent| agent["instance"] == 1 && agent["exit_status"] == 4);
    let table = project.run(&["ps"]).stdout;
    assert!(table.contains("exited (9)") && table.contains("exited (4)"), "{table}");

    // The third start is attested as itself, and the log holds all of it.
    project.attest("flaky", "nonce-one", "e.json").assert_ok();
    let verdict = project.run(&["verify", "e.json", "--nonce", "nonce-one"]);
    verdict.assert_ok();
    let instance = verdict.stdout.lines().find(|line| line.contains(" instance "));
    assert!(instance.is_some_and(|line| line.contains(" 3 ")), "{}", verdict.stdout);
    let events = project.run(&["events"]).stdout;
    assert_eq!(events.matches("agent launched       flaky").count(), 3, "{events}");
    assert_eq!(events.matches("agent exited         flaky").count(), 2, "{events}");
    // An agent that is gone has no evidence.
    let gone = project.attest("ended", "nonce-one", "gone.json");
    assert!(matches!(gone.status.code(), Some(1 | 3)), "{}", gone.stderr);
    project.down();
}

#[test]
fn an_agent_that_is_killed_from_outside_is_started_again() {
    let one = agent("one", &["say here", "wait"], "restart: always");
    let project = Project::ready("oomlike", &one, &[]);
    project.up();
    let before = project.wait_for_agent("one", "running", |agent| agent["pid"].is_number());
    kill(u32::try_from(before["pid"].as_u64().unwrap()).unwrap(), Signal::KILL);
    project
        .wait_for_agent("one", "started again", |agent| agent["instance"] == 2 && agent["pid"].is_number());
    project.down();
}

#[test]
fn an_agent_that_ends_before_it_is_healthy_stops_the_start() {
    let sick = agent(
        "sick",
        &["say here", "wait"],
        "healthcheck:\n  test: [\"CMD\", \"/agent\", \"reach 1\"]\n  interval: 1s\n  timeout: 1s\n  retries: 2",
    );
    let project = Project::ready("sick", &sick, &[]);
    let output = project.try_up(&["--wait-timeout", "20"]);
    assert_eq!(output.status.code(), Some(3), "{}{}", output.stdout, output.stderr);
    output.assert_fails(3, "sick", "logs");
    assert!(output.took < FAULT_BOUND, "{:?}", output.took);
    project.assert_nothing_left();

    // Without a health check, an agent that began to run is up, as with Compose; `ps` tells its end.
    project.write_compose(&agent("sick", &["exit 6"], ""), &[]);
    project.write_policy(&[]);
    let output = project.try_up(&[]);
    if output.status.success() {
        project.wait_for_agent("sick", "ended", |agent| agent["exit_status"] == 6);
        project.down();
    } else {
        output.assert_fails(3, "sick ended before it was healthy", "");
        project.assert_nothing_left();
    }
}

#[test]
fn a_program_that_is_not_in_the_image_is_named() {
    let project = Project::empty("noexec");
    project.write_compose(&agent("one", &["wait"], "entrypoint: [\"/no/such/program\"]"), &[]);
    image::link_into(&project.home());
    project.write_policy(&[]);
    let output = project.try_up(&[]);
    output.assert_fails(3, "execute the program: No such file", "");
    project.assert_nothing_left();
}

fn ends_everything(name: &str, program: &str) {
    let project = project(name);
    project.up();
    project.kill(program);
    project.assert_nothing_left();
    let ps = project.run(&["ps"]);
    ps.assert_fails(3, "does not run", "casemate up");
    second_up_works(&project);
}

#[test]
fn a_killed_warden_ends_everything() {
    ends_everything("k-warden", "casemate-warden");
}

#[test]
fn a_killed_gateway_ends_everything() {
    ends_everything("k-gateway", "casemate-gateway");
}

#[test]
fn a_killed_broker_ends_everything() {
    ends_everything("k-broker", "casemate-broker");
}

#[test]
fn a_killed_emulator_ends_everything() {
    ends_everything("k-emulator", "casemate-emulator");
}

#[test]
fn a_killed_supervisor_takes_every_process_with_it_and_the_next_command_cleans_the_rest() {
    for (name, next) in [("k-super-down", "down"), ("k-super-up", "up")] {
        let project = project(name);
        project.up();
        project.kill("box-supervisor");
        let end = Instant::now() + FAULT_BOUND;
        while !project.processes().is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        let census = project.census();
        assert_eq!(census.processes, Vec::<String>::new());
        assert!(census.mounts.is_empty() && census.loop_devices.is_empty(), "{census:?}");
        if next == "up" {
            project.up();
        }
        project.down();
    }
}

#[test]
fn a_killed_courier_is_replaced_when_it_is_needed() {
    // The keeper is started again after its courier died: it is attested and gets its secret by a new one.
    let keeper = agent("keeper", &["secret marker", "wait"], "secrets: [marker]\nrestart: always");
    let project = Project::ready("k-courier", &keeper, &[("marker", "m")]);
    project.up();
    project.kill("casemate-courier");
    project.attest("keeper", "nonce-one", "e.json").assert_ok();
    let pid = project.ps()["agents"]["keeper"]["pid"].as_u64().unwrap();
    kill(u32::try_from(pid).unwrap(), Signal::KILL);
    project.wait_for_agent("keeper", "started again with its secret", |agent| {
        agent["instance"] == 2 && agent["pid"].is_number() && agent["secrets"][0] == "marker"
    });
    // Each start of the keeper says what it got.
    let line = "secret marker mode 0400 owner 1000:1000 reversed m";
    project.logs_with("keeper", &format!("{line}\nkeeper | {line}\n"));
    project.down();
}

#[test]
fn a_broker_that_is_not_there_stops_the_start_within_a_bound() {
    let project = project("away");
    project.up();
    project.down();
    let certificate = project.project_dir().join("broker/tls.crt");
    // A port that was free a moment ago, and one where something listens that never answers.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (what, address) in [("closed", free), ("silent", silent.local_addr().unwrap())] {
        let url = format!("https://{address}");
        let args = ["--broker", &url, "--broker-cert", certificate.to_str().unwrap()];
        let output = project.try_up(&args);
        assert_eq!(output.status.code(), Some(3), "{what}: {}{}", output.stdout, output.stderr);
        assert_eq!(output.report().len(), 2, "{what}: {}", output.stderr);
        assert!(output.took < COMMAND_BOUND, "{what}: {:?}", output.took);
        project.assert_nothing_left();
    }
    second_up_works(&project);
}

#[test]
fn a_broker_that_is_killed_during_the_start_stops_it() {
    let project = project("mid-broker");
    let mut up = project.spawn(&["up", "-d", "--progress", "plain"]);
    let end = Instant::now() + FAULT_BOUND;
    let pid = loop {
        let broker = project.processes().into_iter().find(|pid| {
            fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("casemate-broker"))
        });
        if let Some(pid) = broker {
            break pid;
        }
        assert!(up.runs() && Instant::now() < end, "no broker came");
    };
    kill(pid, Signal::KILL);
    let output = up.wait(COMMAND_BOUND);
    output.assert_fails(3, "broker", "");
    second_up_works(&project);
}

/// A program that hangs must not keep the others from their end.
fn ends_while_stopped(name: &str, program: &str) {
    let project = project(name);
    project.up();
    kill(project.pid_of(program), Signal::STOP);
    if program != "casemate-warden" {
        assert!(project.run(&["ps"]).took < FAULT_BOUND);
    }
    project.down();
    second_up_works(&project);
}

#[test]
fn down_ends_a_box_whose_warden_hangs() {
    ends_while_stopped("s-warden", "casemate-warden");
}

#[test]
fn down_ends_a_box_whose_gateway_hangs() {
    ends_while_stopped("s-gateway", "casemate-gateway");
}

#[test]
fn down_ends_a_box_whose_courier_hangs() {
    ends_while_stopped("s-courier", "casemate-courier");
}

#[test]
fn down_ends_a_box_whose_broker_hangs() {
    ends_while_stopped("s-broker", "casemate-broker");
}

#[test]
fn down_ends_a_box_whose_hardware_hangs() {
    let project = project("s-emulator");
    project.up();
    kill(project.pid_of("casemate-emulator"), Signal::STOP);
    // A request for evidence hangs in the hardware; the warden still answers others.
    let attest = project.spawn(&["attest", "other", "--nonce", "nonce-one", "-o", "e.json"]);
    std::thread::sleep(Duration::from_millis(200));
    let ps = project.run_with(&["ps"], FAULT_BOUND, None);
    ps.assert_ok();
    project.down();
    assert_eq!(attest.wait(COMMAND_BOUND).status.code(), Some(3));
    second_up_works(&project);
}

#[test]
fn a_full_disk_stops_up_with_two_lines_and_a_second_up_works() {
    let project = project("full");
    // In a mount namespace of its own, so that nothing of it outlives the shell.
    let script = r#"
        set -e
        cp -a "$1" "$1.copy" && mount -t tmpfs -o size=3m none "$1" && cp -a "$1.copy"/. "$1"/
        set +e
        dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null
        for left_kib in 0 4 16 64; do
            rm "$1/filler"; dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null
            truncate -s "-${left_kib}K" "$1/filler"
            "$2" up -d --progress plain >/dev/null 2>"$3/full-$left_kib.err"; echo "left $left_kib: $?"
            "$2" down -t 0 >/dev/null 2>&1
        done
        rm "$1/filler"; dd if=/dev/zero of="$1/filler" bs=1k 2>/dev/null
        echo more | "$2" secret put marker >/dev/null 2>"$3/full-put.err"; echo "put: $?"
        rm "$1/filler"
        "$2" up -d --progress plain >/dev/null; echo "freed: $?"
        dd if=/dev/zero of="$1/filler" bs=1k 2>/dev/null
        "$2" ps >/dev/null; echo "ps: $?"
        "$2" attest other --nonce nonce-one -o "$3/full.json"; echo "attest: $?"
        "$2" verify "$3/full.json" --nonce nonce-one >/dev/null; echo "verify: $?"
        "$2" down -t 0 >/dev/null; echo "down: $?""#;
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script, "sh"]);
    command.arg(project.home().join("projects")).arg(dist().join("casemate")).arg(project.dir.path());
    project.place(&mut command);
    let output = run_bounded(&mut command, project.dir.path(), 2 * COMMAND_BOUND, None);
    let said = fs::read_to_string(project.file("full-put.err")).unwrap();
    let put = output.stdout.lines().find_map(|line| line.strip_prefix("put: "));
    assert!(put == Some("3") && said.lines().count() == 2, "{put:?} {said}");
    // What runs goes on: the disk may fill at any time.
    let works = output.stdout.contains("freed: 0\nps: 0\nattest: 0\nverify: 0\ndown: 0");
    assert!(works, "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("left 0: 3"), "{}{}", output.stdout, output.stderr);
    for left_kib in [0, 4, 16, 64] {
        let code = output.stdout.lines().find_map(|l| l.strip_prefix(&format!("left {left_kib}: ")));
        let said = fs::read_to_string(project.file(&format!("full-{left_kib}.err"))).unwrap();
        let said: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("error: ")).collect();
        match code {
            Some("0") => {}
            Some("3") => assert!(said.len() == 2 && said[1].starts_with("to do: "), "{left_kib}: {said:?}"),
            other => panic!("{left_kib} KiB left: {other:?} {said:?}"),
        }
    }
    project.assert_nothing_left();
}

#[test]
fn two_projects_do_not_touch_each_other() {
    let (one, two) = (project("twin-one"), project("twin-two"));
    one.up();
    two.up();
    one.kill("casemate-warden");
    one.assert_nothing_left();
    two.wait_for_agent("keeper", "running", |agent| agent["pid"].is_number());
    two.attest("keeper", "nonce-one", "e.json").assert_ok();
    two.down();
}

#[test]
fn following_logs_ends_with_the_box() {
    let project = project("follow");
    project.up();
    let mut follow = project.spawn(&["logs", "-f"]);
    let end = Instant::now() + FAULT_BOUND;
    while !follow.stdout().contains("| here") {
        assert!(follow.runs() && Instant::now() < end, "{}", follow.stdout());
        std::thread::sleep(Duration::from_millis(20));
    }
    project.down();
    follow.wait(FAULT_BOUND).assert_ok();
}

#[test]
fn damaged_state_stops_the_start_with_two_lines() {
    let project = project("damaged");
    project.up();
    project.down();
    let state = project.project_dir();
    let mut damaged = 0;
    let files =
        [&state.join("broker"), &state.join("emulator"), &state].map(|dir| crate::census::entries(dir));
    for file in files.concat().into_iter().filter(|path| path.is_file()) {
        let whole = fs::read(&file).unwrap();
        for bytes in [Vec::new(), b"damaged".repeat(100)] {
            fs::write(&file, &bytes).unwrap();
            let output = project.try_up(&[]);
            let name = file.strip_prefix(&state).unwrap().display();
            assert!(!output.stderr.contains("panicked"), "{name}: {}", output.stderr);
            match output.status.code() {
                // Made anew.
                Some(0) => project.down(),
                Some(1) => assert_eq!(output.report().len(), 5, "{name}: {}", output.stderr),
                Some(2 | 3) => assert_eq!(output.report().len(), 2, "{name}: {}", output.stderr),
                other => panic!("{name}: {other:?} {}", output.stderr),
            }
            project.assert_nothing_left();
            damaged += 1;
        }
        fs::write(&file, &whole).unwrap();
    }
    assert!(damaged >= 10, "{damaged}");
}

#[test]
fn a_user_who_is_not_root_is_told_so_and_nothing_is_started() {
    let project = project("nobody");
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    command.arg(dist().join("casemate")).args(["up", "-d"]);
    project.place(&mut command);
    let output = run_bounded(&mut command, project.dir.path(), COMMAND_BOUND, None);
    assert!(matches!(output.status.code(), Some(2 | 3)), "{}{}", output.stdout, output.stderr);
    assert_eq!(output.report().len(), 2, "{}", output.stderr);
    project.assert_nothing_left();
    second_up_works(&project);
}
