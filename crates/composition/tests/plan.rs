//! What a plan says: which agents, who gains and loses what, what is shared, what it costs. The text is golden.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::BTreeMap;

use casemate_canon::Sha256;
use casemate_composition::lock::{AgentName, ImagePin, User};
use casemate_composition::plan::{Access, Fate, UNSHARED_PAGES_BYTES, Writes};
use casemate_composition::{ImageFacts, Lock, Plan, compose};

const TEXT: &str = "name: t
services:
  asker:
    image: i:1
    command: [ask]
    mem_limit: 64m
    cpus: \"0.5\"
    environment: { MODE: a }
    secrets: [token]
    volumes: [\"notes:/notes\"]
    x-casemate: { talks-to: [\"keeper:80\"], egress: [\"api.example:443\"] }
  keeper:
    image: i:1
    command: [keep]
    mem_limit: 128m
    expose: [\"80\", \"81\"]
    volumes: [\"data:/data\"]
  quiet:
    image: i:2
    command: [\"rest\"]
volumes: { notes: {}, data: { x-casemate: { size: 32m } } }
secrets: { token: { external: true }, key: { external: true } }
";

fn lock(text: &str) -> Lock {
    let facts = |tag: &str| ImageFacts {
        pin: ImagePin {
            manifest: Sha256::of(tag.as_bytes()),
            config: Sha256::ZERO,
            rootfs: Sha256::of(tag.as_bytes()),
        },
        entrypoint: Vec::new(),
        command: Vec::new(),
        environment: BTreeMap::new(),
        working_dir: String::new(),
        user: User { uid: 1, gid: 1 },
    };
    let images = ["i:1", "i:2"].map(|tag| (tag.to_owned(), facts(tag))).into();
    let compose =
        compose::parse("c.yaml", text, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems}"));
    compose.resolve(&images).unwrap()
}

fn plan(old: Option<&str>, new: &str) -> Plan {
    let sizes = [(Sha256::of(b"i:1"), 50 << 20)].into();
    Plan::new(old.map(lock).as_ref(), &lock(new), &sizes).unwrap()
}

fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(TEXT.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

fn name(text: &str) -> AgentName {
    text.parse().unwrap()
}

/// Digests are cut to their kind: `sha256` or `sha384` and a letter that stands for one value throughout.
fn without_digests(text: &str) -> String {
    let mut known = Vec::new();
    let mut out = String::new();
    for (index, part) in text.split("sha").enumerate() {
        let Some((digest, rest)) = part.split_once('\u{2026}').filter(|_| index > 0) else {
            out.push_str(if index > 0 { "sha" } else { "" });
            out.push_str(part);
            continue;
        };
        let position = known.iter().position(|seen| *seen == digest).unwrap_or_else(|| {
            known.push(digest);
            known.len() - 1
        });
        out.push_str(&format!("<{}>{rest}", char::from(b'A' + u8::try_from(position).unwrap())));
    }
    out
}

#[test]
fn nothing_changes_where_nothing_differs() {
    let plan = plan(Some(TEXT), &TEXT.replace("[ask]", "ask"));
    assert!(!plan.changed && plan.changes.is_empty() && plan.old == Some(plan.new));
    for agent in plan.agents.values() {
        assert_eq!((agent.fate, agent.old), (Fate::Stays, agent.new));
        assert!(
            agent.changes.is_empty()
                && agent.gains.is_empty()
                && agent.loses.is_empty()
                && agent.limits.is_empty()
        );
    }
    assert_eq!(
        without_digests(&plan.to_string()),
        "composition <A>\n\
         agent asker stays: measurement <B>\n\
         agent keeper stays: measurement <C>\n\
         agent quiet stays: measurement <D>\n\
         shared nothing: no volume is mounted by two agents, and no page of an image is shared\n\
         memory at most 704 MiB, the sum of the limits: asker 64 MiB, keeper 128 MiB, quiet 512 MiB\n\
         memory about 15 MiB of it because agents share no pages, while all are idle (measured: docs/performance.md)\n\
         disk of unknown size for the root file system <E> of quiet\n\
         disk 50 MiB for the root file system <F> of asker, keeper\n\
         disk 32 MiB for the volume data\n\
         disk without limit for the volume notes: x-casemate: { size: 10g } there would set one\n"
    );
}

#[test]
fn each_change_is_told_with_its_agent() {
    let new = changed(&[
        ("[ask]", "[ask, again]"),
        ("mem_limit: 64m", "mem_limit: 96m"),
        ("    cpus: \"0.5\"\n", ""),
        ("{ MODE: a }", "{ OTHER: b }"),
        ("secrets: [token]", "secrets: [key]"),
        ("\"keeper:80\"", "\"keeper:81\""),
        ("\"api.example:443\"", "\"api.example:443\", \"b.example:1\""),
        ("notes:/notes", "data:/notes:ro"),
        ("mem_limit: 128m", "mem_limit: 100m"),
        ("  quiet:", "  loud:"),
        ("notes: {}, ", ""),
    ]);
    let plan = plan(Some(TEXT), &new);
    assert!(plan.changed);
    assert_eq!(
        without_digests(&plan.to_string()),
        "composition <A> -> <B>\n  \
           removed  volumes.notes {\"size_bytes\":null}\n\
         agent asker changes: measurement <C> -> <D>\n  \
           changed  command from [\"ask\"] to [\"ask\",\"again\"]\n  \
           changed  edges from [{\"port\":80,\"to\":\"keeper\"}] to [{\"port\":81,\"to\":\"keeper\"}]\n  \
           changed  egress from [{\"address\":null,\"host\":\"api.example\",\"port\":443}] to \
         [{\"address\":null,\"host\":\"api.example\",\"port\":443},{\"address\":null,\"host\":\"b.example\",\"port\":1}]\n  \
           removed  environment.MODE \"a\"\n  \
           added    environment.OTHER \"b\"\n  \
           changed  limits.cpu_milli from 500 to null\n  \
           changed  limits.memory_bytes from 67108864 to 100663296\n  \
           changed  mounts from [{\"name\":\"notes\",\"read_only\":false,\"target\":\"/notes\",\"type\":\"volume\"},\
         {\"mode\":1023,\"size_bytes\":67108864,\"target\":\"/tmp\",\"type\":\"tmpfs\"}] to \
         [{\"name\":\"data\",\"read_only\":true,\"target\":\"/notes\",\"type\":\"volume\"},\
         {\"mode\":1023,\"size_bytes\":67108864,\"target\":\"/tmp\",\"type\":\"tmpfs\"}]\n  \
           changed  secrets from [{\"resource\":\"t/secret/token\",\"target\":\"token\"}] to \
         [{\"resource\":\"t/secret/key\",\"target\":\"key\"}]\n  \
           gains    more cpu_milli: no limit, before 500\n  \
           gains    more memory_bytes: 100663296, before 67108864\n  \
           gains    call to keeper:81\n  \
           gains    egress to b.example:1\n  \
           gains    secret t/secret/key\n  \
           gains    volume data, to read\n  \
           loses    call to keeper:80\n  \
           loses    secret t/secret/token\n  \
           loses    volume notes, to write\n\
         agent keeper changes: measurement <E> -> <F>\n  \
           changed  limits.memory_bytes from 134217728 to 104857600\n  \
           loses    some memory_bytes: 104857600, before 134217728\n\
         agent loud is new: measurement <G>\n\
         agent quiet is gone: measurement <H>\n\
         shared volume data: asker reads, keeper writes\n\
         memory at most 708 MiB, the sum of the limits: asker 96 MiB, keeper 100 MiB, loud 512 MiB\n\
         memory about 15 MiB of it because agents share no pages, while all are idle (measured: docs/performance.md)\n\
         disk of unknown size for the root file system <I> of loud\n\
         disk 50 MiB for the root file system <J> of asker, keeper\n\
         disk 32 MiB for the volume data\n"
    );
}

#[test]
fn without_anything_before_all_is_new_and_gained() {
    let plan = plan(None, TEXT);
    assert!(plan.changed && plan.old.is_none() && plan.changes.is_empty());
    let asker = &plan.agents[&name("asker")];
    assert_eq!((asker.fate, asker.old, asker.changes.len(), asker.loses.len()), (Fate::New, None, 0, 0));
    let gains: Vec<String> = asker.gains.iter().map(ToString::to_string).collect();
    assert_eq!(
        gains,
        ["call to keeper:80", "egress to api.example:443", "secret t/secret/token", "volume notes, to write"]
    );
}

#[test]
fn an_address_that_stands_for_a_name_is_another_way_out() {
    let new = changed(&[("    cpus", "    extra_hosts: { api.example: 10.0.0.1 }\n    cpus")]);
    let plan = plan(Some(TEXT), &new);
    let asker = &plan.agents[&name("asker")];
    assert_eq!(asker.gains.first().unwrap().to_string(), "egress to api.example:443 at 10.0.0.1");
    assert_eq!(asker.loses.first().unwrap().to_string(), "egress to api.example:443");
}

#[test]
fn a_port_of_the_box_is_a_way_in() {
    let new = changed(&[("    cpus", "    ports: [\"8080:90\"]\n    cpus")]);
    let asker = &plan(Some(TEXT), &new).agents[&name("asker")];
    let gains: Vec<String> = asker.gains.iter().map(ToString::to_string).collect();
    assert_eq!(gains, ["calls from 127.0.0.1:8080 of the box to its port 90"]);
}

#[test]
fn writing_counts_where_a_volume_is_mounted_twice_and_the_sums_are_right() {
    let new = changed(&[("data:/data", "data:/data:ro\", \"data:/rw"), ("notes:/notes", "data:/notes:ro")]);
    let plan = plan(None, &new);
    assert_eq!(
        plan.shared_volumes[&name("data")],
        [(name("asker"), Writes::No), (name("keeper"), Writes::Yes)].into()
    );
    let keeper = &plan.agents[&name("keeper")].gains;
    assert!(keeper.contains(&Access::Volume { name: name("data"), writes: Writes::Yes }));
    assert_eq!(plan.cost.memory_bytes_sum, (64 + 128 + 512) << 20);
    assert_eq!(plan.cost.unshared_pages_bytes, 3 * UNSHARED_PAGES_BYTES);
    let value = serde_json::to_value(&plan).unwrap();
    assert_eq!(value["shared_volumes"]["data"]["keeper"], "yes");
    assert_eq!(value["agents"]["asker"]["fate"], "new");
    assert_eq!(value["agents"]["asker"]["gains"][0]["kind"], "call");
}

#[test]
fn says_who_shares_the_pages_of_an_image() {
    let share = "x-casemate: { trust: pair, share: pair";
    let both = changed(&[
        ("x-casemate: { talks-to", &format!("{share}, talks-to")),
        ("expose: [\"80\", \"81\"]", &format!("expose: [\"80\", \"81\"]\n    {share} }}")),
    ]);
    let plan = plan(Some(TEXT), &both);
    assert_eq!(plan.shared_roots.len(), 1);
    let text = plan.to_string();
    assert!(text.contains("gains    pages of its image shared with group pair"), "{text}");
    assert!(
        text.contains("shared pages of one image, group pair: asker, keeper see what the others read"),
        "{text}"
    );
    assert!(!text.contains("shared nothing"), "{text}");
    // Two sets of pages where there were three.
    assert_eq!(plan.cost.unshared_pages_bytes, 2 * UNSHARED_PAGES_BYTES);
}
