//! Machines that cannot build a compartment: `up` names what is missing and what to do, and starts nothing.

use std::process::Command;

use crate::project::{COMMAND_BOUND, Output, Project, agent, dist, run_bounded};

/// `up` by a program that takes something away first.
fn up_by(project: &Project, program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(args).arg(dist().join("casemate")).args(["up", "-d", "--progress", "plain"]);
    project.place(&mut command);
    let output = run_bounded(&mut command, project.dir.path(), COMMAND_BOUND, None);
    assert!(
        !project.project_dir().join("logs/box-supervisor.txt").exists(),
        "{}{}",
        output.stdout,
        output.stderr
    );
    project.assert_nothing_left();
    output
}

fn project(name: &str) -> Project {
    Project::ready(name, &agent("one", &["say here", "wait"], ""), &[])
}

/// What was found and what to do, where this control is missing.
fn refused_for(output: &Output, control: &str) -> (String, String) {
    let (_, found) = output.assert_refused(&format!("control.{control}"));
    assert!(output.stderr.contains("nothing was started"), "{}", output.stderr);
    (found, (*output.report().last().unwrap()).to_owned())
}

#[test]
fn without_user_namespaces_up_names_them_and_the_limit_to_raise() {
    let project = project("no-userns");
    let output = up_by(&project, env!("CARGO_BIN_EXE_systemtest-without"), &["user-namespaces"]);
    let (found, todo) = refused_for(&output, "user-namespace");
    assert!(found.contains("user.max_user_namespaces"), "{found}");
    assert!(todo.contains("sysctl -w user.max_user_namespaces="), "{todo}");
}

#[test]
fn without_another_kind_of_namespace_up_names_it() {
    let project = project("no-timens");
    let output = up_by(&project, env!("CARGO_BIN_EXE_systemtest-without"), &["time-namespaces"]);
    let (found, _) = refused_for(&output, "namespaces");
    assert!(found.contains("time namespace"), "{found}");
}

#[test]
fn without_erofs_up_names_the_file_system() {
    let project = project("no-erofs");
    let output = up_by(&project, env!("CARGO_BIN_EXE_systemtest-without"), &["erofs"]);
    let (found, todo) = refused_for(&output, "private-root");
    assert!(found.contains("no file system type erofs") && todo.contains("EROFS"), "{found} {todo}");
}

#[test]
fn without_landlock_up_names_it_before_anything_starts() {
    let project = project("no-landlock");
    let output = up_by(&project, env!("CARGO_BIN_EXE_systemtest-without-landlock"), &[]);
    let (found, todo) = refused_for(&output, "landlock");
    assert!(found.contains("Landlock") && todo.contains("--allow-weaker landlock"), "{found} {todo}");
}

#[test]
fn without_control_group_controllers_up_names_the_one_that_is_missing() {
    let project = project("no-cgroup");
    let hide = "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"";
    let output = up_by(&project, "unshare", &["-m", "sh", "-c", hide, "sh"]);
    let (found, todo) = refused_for(&output, "cgroup-limits");
    assert!(found.contains("cgroup controller `"), "{found}");
    assert!(todo.contains("mount -t cgroup2"), "{todo}");
}

#[test]
fn in_a_container_without_privileges_up_names_the_capabilities_that_root_lacks() {
    let project = project("no-caps");
    let output = up_by(&project, "setpriv", &["--bounding-set", "-sys_admin,-net_admin"]);
    output.assert_fails(3, "root lacks CAP_NET_ADMIN, CAP_SYS_ADMIN", "not in a container");
}

#[test]
fn in_a_container_with_a_user_namespace_up_says_so() {
    let project = project("in-userns");
    let output = up_by(&project, "unshare", &["--user", "--map-root-user", "--mount"]);
    output.assert_fails(3, "user namespace of its own", "not in a container");
}
