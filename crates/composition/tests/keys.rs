//! Every key of the Compose specification is decided, and what the table promises is read.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use casemate_composition::compose::{self, PullPolicy};
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

/// The mappings below, with the keys that the schema gives them (June 2026, and what newer heads added to `build`,
/// `develop` and `models`).
const MAPPINGS: [(&str, &str); 51] = [
    ("include[]", "path env_file project_directory"),
    ("models.NAME", "name model context_size runtime_flags"),
    (
        "networks.NAME",
        "name driver driver_opts ipam external internal enable_ipv4 enable_ipv6 attachable labels",
    ),
    ("networks.NAME.ipam", "driver config options"),
    ("networks.NAME.ipam.config[]", "subnet ip_range gateway aux_addresses"),
    ("networks.NAME.external", "name"),
    ("volumes.NAME", "name driver driver_opts external labels x-casemate"),
    ("volumes.NAME.external", "name"),
    ("configs.NAME", "name content environment file external labels template_driver"),
    ("configs.NAME.external", "name"),
    ("secrets.NAME", "name environment file external labels driver driver_opts template_driver"),
    ("secrets.NAME.external", "name"),
    (
        "services.NAME.build",
        "context dockerfile dockerfile_inline entitlements args ssh labels cache_from cache_to no_cache no_cache_filter \
         additional_contexts network provenance sbom pull target shm_size extra_hosts isolation privileged secrets \
         tags ulimits platforms",
    ),
    (
        "services.NAME.blkio_config",
        "device_read_bps device_read_iops device_write_bps device_write_iops weight weight_device",
    ),
    ("services.NAME.blkio_config.device_*[]", "path rate"),
    ("services.NAME.blkio_config.weight_device[]", "path weight"),
    ("services.NAME.configs[]", "source target uid gid mode"),
    ("services.NAME.credential_spec", "config file registry"),
    ("services.NAME.depends_on.NAME", "restart required condition"),
    (
        "services.NAME.deploy",
        "mode endpoint_mode replicas labels rollback_config update_config resources restart_policy placement",
    ),
    ("services.NAME.deploy.placement", "constraints preferences max_replicas_per_node"),
    ("services.NAME.deploy.placement.preferences[]", "spread"),
    ("services.NAME.deploy.resources", "limits reservations"),
    ("services.NAME.deploy.resources.limits", "cpus memory pids"),
    ("services.NAME.deploy.resources.reservations", "cpus memory generic_resources devices"),
    ("services.NAME.deploy.resources.reservations.devices[]", "capabilities count device_ids driver options"),
    ("services.NAME.deploy.resources.reservations.generic_resources[].discrete_resource_spec", "kind value"),
    ("services.NAME.deploy.restart_policy", "condition delay max_attempts window"),
    (
        "services.NAME.deploy.rollback_config",
        "parallelism delay failure_action monitor max_failure_ratio order",
    ),
    (
        "services.NAME.deploy.update_config",
        "parallelism delay failure_action monitor max_failure_ratio order",
    ),
    ("services.NAME.develop", "watch"),
    ("services.NAME.develop.watch[]", "ignore include path action target exec initial_sync"),
    ("services.NAME.develop.watch[].exec", "command user privileged working_dir environment"),
    ("services.NAME.devices[]", "source target permissions"),
    ("services.NAME.env_file[]", "path format required"),
    ("services.NAME.extends", "service file"),
    ("services.NAME.gpus[]", "capabilities count device_ids driver options"),
    ("services.NAME.healthcheck", "disable interval retries test timeout start_period start_interval"),
    ("services.NAME.logging", "driver options"),
    ("services.NAME.models.NAME", "endpoint_var model_var"),
    (
        "services.NAME.networks.NAME",
        "aliases interface_name ipv4_address ipv6_address link_local_ips mac_address driver_opts priority gw_priority",
    ),
    ("services.NAME.ports[]", "name mode host_ip target published protocol app_protocol"),
    ("services.NAME.post_start[]", "command user privileged working_dir environment"),
    ("services.NAME.pre_stop[]", "command user privileged working_dir environment"),
    ("services.NAME.provider", "type options"),
    ("services.NAME.secrets[]", "source target uid gid mode"),
    ("services.NAME.ulimits.NAME", "soft hard"),
    ("services.NAME.volumes[]", "type source target read_only consistency bind volume tmpfs image"),
    ("services.NAME.volumes[].bind", "propagation create_host_path recursive selinux"),
    ("services.NAME.volumes[].image", "subpath"),
    ("services.NAME.volumes[].tmpfs", "size mode"),
];
/// Mappings of ours, and those that the schema leaves open: `volume` of a mount has one key twice in this list.
const OPEN: [(&str, &str); 7] = [
    ("volumes.NAME.driver_opts", "size type device o"),
    ("volumes.NAME.x-casemate", "size"),
    ("services.NAME.volumes[].volume", "labels nocopy subpath"),
    ("services.NAME.x-casemate", "talks-to egress sockets backend trust share memory exec partition secrets"),
    ("services.NAME.x-casemate.talks-to[]", "to connections rate bytes"),
    ("x-casemate", "policy collateral-age"),
    (
        "services.NAME.ulimits",
        "core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack",
    ),
];

fn names(table: &Table) -> BTreeSet<&'static str> {
    let names: BTreeSet<_> = table.keys.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), table.keys.len(), "a key of {} is in the table twice", table.of);
    names
}

#[test]
fn the_tables_have_the_keys_of_the_specification_and_ours() {
    let mut wanted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let service: BTreeSet<_> = SPECIFICATION.split_whitespace().chain(["x-casemate"]).collect();
    assert_eq!(service.len(), 92 + 1);
    wanted.insert("services.NAME", service);
    wanted.insert("", TOP_LEVEL.split_whitespace().chain(["x-casemate"]).collect());
    for (path, keys) in MAPPINGS.into_iter().chain(OPEN) {
        wanted.insert(path, keys.split_whitespace().collect());
    }
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for table in keys::TABLES {
        assert!(found.insert(table.path, names(table)).is_none(), "{}", table.path);
    }
    for whole in keys::WHOLES {
        assert!(found.insert(whole.path, whole.names.iter().copied().collect()).is_none(), "{}", whole.path);
    }
    assert_eq!(found, wanted);
}

/// The key that `path` names, in the tables.
fn key_at(path: &str) -> Option<&'static keys::Key> {
    keys::TABLES.iter().find_map(|table| {
        let name =
            if table.path.is_empty() { Some(path) } else { path.strip_prefix(table.path)?.strip_prefix('.') };
        table.find(name?)
    })
}

#[test]
fn mappings_are_taken_as_a_whole_only_where_the_key_above_has_no_effect_or_is_refused() {
    for whole in keys::WHOLES {
        let key = key_at(whole.decided_by).unwrap_or_else(|| panic!("{}: no such key", whole.decided_by));
        let read = matches!(key.disposition, Disposition::Honoured | Disposition::Limited(_));
        let single = whole.path.ends_with(".external");
        assert!(!read || single, "{} is read, and its keys are not", whole.path);
    }
}

#[test]
fn every_reason_reads_as_the_end_of_a_sentence() {
    for key in keys::TABLES.iter().flat_map(|table| table.keys) {
        let texts: Vec<&str> = match key.disposition {
            Disposition::Honoured => Vec::new(),
            Disposition::Limited(text) | Disposition::Ignored(text) | Disposition::NoEffect(text) => {
                vec![text]
            }
            Disposition::Refused { reason, instead } => vec![reason, instead],
        };
        for text in texts {
            let fine =
                !text.is_empty() && !text.ends_with('.') && !text.contains('\n') && !text.contains("  ");
            assert!(fine, "{}: {text:?}", key.name);
        }
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
            Disposition::Refused { reason: keys::NOT_YET, .. } => {
                only(format!("`{}` is not supported yet", key.name));
            }
            Disposition::Refused { reason, .. } => only(format!("`{}` is refused: {reason}", key.name)),
            Disposition::Ignored(reason) => {
                let warnings = read.unwrap().warnings;
                assert_eq!(warnings.len(), 1, "{}", key.name);
                assert_eq!(warnings[0].what, format!("`{}` has no effect: {reason}", key.name));
            }
            Disposition::NoEffect(_) => assert_eq!(read.unwrap().warnings, [], "{}", key.name),
            // The value is nonsense: a reader that exists says so.
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

#[test]
fn of_two_pull_policies_for_one_image_the_more_frequent_counts() {
    let service = |name: &str, image: &str, policy: &str| {
        let policy = if policy.is_empty() { String::new() } else { format!("    pull_policy: {policy}\n") };
        format!("  {name}:\n    image: {image}\n{policy}")
    };
    let read = |services: &str| {
        compose::parse("c.yaml", &format!("name: t\nservices:\n{services}"), &BTreeMap::new())
    };
    let services = [
        service("a", "one:1", "never"),
        service("b", "one:1", "if_not_present"),
        service("c", "two:1", "never"),
        service("d", "three:1", ""),
    ];
    let found = read(&services.concat()).unwrap();
    let expected =
        [("one:1", PullPolicy::Missing), ("three:1", PullPolicy::Always), ("two:1", PullPolicy::Never)];
    assert_eq!(found.pull_policies(), expected.into());
    for bad in ["build", "daily", "every_2h", "true", "Always"] {
        let problems = read(&service("a", "one:1", bad)).unwrap_err();
        let expected = format!("`pull_policy` is `{bad}`");
        assert!(problems.as_slice().iter().any(|problem| problem.what == expected), "{problems}");
    }
}
