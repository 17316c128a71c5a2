//! Agents with a terminal of their own: `tty: true`.

use std::time::Duration;

use casemate_sys::terminal::{self, Size};

use crate::inside::User;
use crate::project::{COMMAND_BOUND, Project, agent, kill};

#[test]
fn an_agent_has_a_terminal_of_its_own_that_is_logged_and_attached_to() {
    let steps = ["terminal", "hear WINCH", "input", "terminal", "say done", "wait"];
    let services = format!(
        "{}{}",
        agent("shell", &steps, "stdin_open: true\ntty: true"),
        agent("mute", &["terminal", "wait"], "tty: true")
    );
    let project = Project::ready("tty", &services, &[]);
    project.up();
    // Its output is logged line by line, without the carriage returns that a terminal makes.
    let log = project.logs_with("shell", "hears WINCH");
    assert!(log.contains("shell | terminal of 24 rows and 80 columns, own Ok(())\n"), "{log}");
    project.logs_with("mute", "own Ok(())");
    assert_eq!(project.ps()["agents"]["shell"]["tainted"], false);

    let mut user = User::starts(&project, &["attach", "shell"]);
    // The window's size comes with the user, and changes with it.
    user.sees("heard WINCH\r\n");
    user.types("typed\r");
    user.sees("read typed\r\n");
    terminal::resize(&user.master, Size { rows: 20, columns: 99 }).unwrap();
    kill(user.child.id(), rustix::process::Signal::WINCH);
    std::thread::sleep(Duration::from_millis(300));
    // A second one sees the same, and leaves by keys.
    let mut other = User::starts(&project, &["attach", "shell"]);
    std::thread::sleep(Duration::from_millis(300));
    user.types("again\r");
    other.sees("read again");
    user.sees("read again");
    other.types("\u{10}\u{11}");
    assert_eq!(other.ends(), Some(0));
    let modes = rustix::termios::tcgetattr(&other.master).unwrap();
    assert!(modes.local_modes.contains(rustix::termios::LocalModes::ICANON), "as it was before");
    // Ctrl-D ends the input of the agent's terminal. The last to attach said its size.
    user.types("\u{4}");
    user.sees("input ended");
    user.sees("terminal of 13 rows and 57 columns");
    project.logs_with("shell", "shell | done\n");
    assert_eq!(project.ps()["agents"]["shell"]["tainted"], true);
    assert_eq!(project.ps()["agents"]["mute"]["tainted"], false);
    // Ctrl-C is a key of the agent's terminal, and ends it; that ends `attach`.
    user.types("\u{3}");
    user.sees("shell has ended");
    assert_eq!(user.ends(), Some(0));
    project.wait_for_agent("shell", "ended", |agent| agent["exit_status"] == 130);
    project.run(&["start", "shell"]).assert_ok();
    assert_eq!(project.ps()["agents"]["shell"]["tainted"], false, "a new compartment");
    let piped = project.run_with(&["attach", "shell"], COMMAND_BOUND, Some("from a pipe\n"));
    piped.assert_ok();
    project.logs_with("shell", "read from a pipe");
    project.down();
}

#[test]
fn a_terminal_that_nobody_reads_holds_no_agent_up_and_who_went_away_is_forgotten() {
    let steps = ["say begun", "input", "flood 20000", "say after", "wait"];
    let project = Project::ready("tty-flood", &agent("one", &steps, "stdin_open: true\ntty: true"), &[]);
    project.up();
    // It does not read what it is shown: its own terminal is full.
    let watching = User::starts(&project, &["attach", "one"]);
    let mut typing = User::starts(&project, &["attach", "one"]);
    typing.types("typed\r");
    typing.sees("read typed");
    typing.types("\u{4}");
    project.logs_with("one", "after");
    for mut user in [watching, typing] {
        kill(user.child.id(), rustix::process::Signal::KILL);
        let _ = user.ends();
    }
    project.down();
}
