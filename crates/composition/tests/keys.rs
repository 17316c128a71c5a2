//! Every key of the Compose specification is decided, and what the table promises is read.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use casemate_composition::compose;
use casemate_composition::keys::{self, Disposition, Table};

/// The service keys of the Compose specification's schema (June 2026).
const SPECIFICATION: &str = "annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command \
    configs container_name cpu_count cpu_percent cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus \
    cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt dns_search domainname \
    entrypoint env_file environment expose extends external_links extra_hosts gpus group_add healthcheck hostname \
    image init ipc isolation label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness \
    memswap_limit models network_mode networks oom_kill_disable oom_score_adj pid pids_limit platform ports \
    post_start pre_stop privileged profiles provider pull_policy pull_refresh_after read_only restart runtime scale \
    secrets security_opt shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits \
    use_api_socket user userns_mode uts volumes volumes_from working_dir";
const TOP_LEVEL: &str = "version name include services models networks volumes secrets configs";

fn ours(table: &Table) -> BTreeSet<&'static str> {
    let names: BTreeSet<_> = table.keys.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), table.keys.len(), "a key of {} is in the table twice", table.of);
    names
}

#[test]
fn the_tables_have_the_keys_of_the_specification_and_ours() {
    let mut service: BTreeSet<_> = SPECIFICATION.split_whitespace().collect();
    assert_eq!(service.len(), 92);
    service.insert("x-casemate");
    assert_eq!(ours(&keys::SERVICE), service);
    let mut top: BTreeSet<_> = TOP_LEVEL.split_whitespace().collect();
    top.insert("x-casemate");
    assert_eq!(ours(&keys::TOP), top);
    for table in [
        keys::X_CASEMATE,
        keys::DEPLOY,
        keys::RESOURCES,
        keys::RESOURCE_LIMITS,
        keys::ULIMITS,
        keys::ULIMIT,
        keys::HEALTHCHECK,
        keys::DEPENDENCY,
        keys::MOUNT,
        keys::MOUNT_VOLUME,
        keys::MOUNT_TMPFS,
        keys::SERVICE_SECRET,
        keys::SECRET,
        keys::VOLUME,
        keys::SERVICE_NETWORK,
    ] {
        ours(&table);
    }
}

#[test]
fn each_key_of_a_service_does_what_the_table_says() {
    for key in keys::SERVICE.keys {
        let text = format!("name: t\nservices:\n  a:\n    image: i:1\n    {}: {{ x: [] }}\n", key.name);
        let text = if key.name == "image" { text.replace("    image: i:1\n", "") } else { text };
        let read = compose::parse("c.yaml", &text, &BTreeMap::new());
        let problems: Vec<String> = match &read {
            Ok(_) => Vec::new(),
            Err(problems) => problems.as_slice().iter().map(|problem| problem.what.clone()).collect(),
        };
        let only = |start: String| {
            assert!(problems.len() == 1 && problems[0].starts_with(&start), "{}: {problems:?}", key.name);
        };
        match key.disposition {
            Disposition::Refused { reason, .. } => only(format!("`{}` is refused: {reason}", key.name)),
            Disposition::NotYet(_) => only(format!("`{}` is not supported yet", key.name)),
            Disposition::Ignored(reason) => {
                let warnings = read.unwrap().warnings;
                assert_eq!(warnings.len(), 1, "{}", key.name);
                assert_eq!(warnings[0].what, format!("`{}` has no effect: {reason}", key.name));
            }
            Disposition::NoEffect(_) => assert_eq!(read.unwrap().warnings, [], "{}", key.name),
            // The value is nonsense: a reader that exists says so. `environment` and `networks` take any names.
            Disposition::Honoured | Disposition::Limited(_) => {
                assert!(!problems.is_empty(), "{}: nothing was said of a nonsense value", key.name);
                assert!(
                    !problems.iter().any(|what| what == &format!("`{}` is not supported", key.name)),
                    "{}",
                    key.name
                );
            }
        }
    }
}

#[test]
fn values_that_ask_for_what_is_so_anyway_are_accepted() {
    let mut seen = 0;
    for key in keys::SERVICE.keys {
        for value in key.harmless {
            let text = format!("name: t\nservices:\n  a:\n    image: i:1\n    {}: {value}\n", key.name);
            assert_eq!(
                compose::parse("c.yaml", &text, &BTreeMap::new()).unwrap().warnings,
                [],
                "{}",
                key.name
            );
            seen += 1;
        }
    }
    assert!(seen > 5);
}
