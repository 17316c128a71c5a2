//! The same inputs give the same bytes of a lock: in any order of keys, any of the forms, any layout, on any machine.
//!
//! Compositions are made at random, and each is written several times, every time in another way.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};

use casemate_canon::Sha256;
use casemate_composition::lock::{ImagePin, User};
use casemate_composition::{ImageFacts, Lock, compose};

/// Compositions that are made.
const COMPOSITIONS: u64 = 150;
/// Ways in which each is written.
const WRITTEN: u64 = 6;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one_of(&mut self, texts: &[&str]) -> String {
        texts[self.below(texts.len())].to_owned()
    }

    fn some_of(&mut self, texts: &[&str]) -> BTreeSet<String> {
        texts.iter().filter(|_| self.below(2) == 0).map(|text| (*text).to_owned()).collect()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// YAML of which only the layout is open.
enum Yaml {
    Text(String),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
}

fn text(text: impl Into<String>) -> Yaml {
    Yaml::Text(text.into())
}

fn list(items: impl IntoIterator<Item = String>) -> Yaml {
    Yaml::List(items.into_iter().map(Yaml::Text).collect())
}

fn map<const N: usize>(members: [(&str, Yaml); N]) -> Yaml {
    Yaml::Map(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

impl Yaml {
    /// Writes it with members in any order, in flow or block style, quoted in either way.
    fn write(self, random: &mut Random, depth: usize, out: &mut String) {
        let flow = depth > 0 && random.below(3) == 0;
        match self {
            Self::Text(value) => out.push_str(&scalar(&value, random)),
            Self::List(items) if items.is_empty() => out.push_str("[]"),
            Self::Map(members) if members.is_empty() => out.push_str("{}"),
            Self::List(items) if flow => {
                out.push('[');
                for item in items {
                    item.write_flow(random, out);
                    out.push_str(", ");
                }
                out.push(']');
            }
            Self::Map(members) if flow => Self::Map(members).write_flow(random, out),
            Self::List(items) => {
                for item in items {
                    new_line(random, depth, out);
                    out.push_str("- ");
                    item.write_flow(random, out);
                }
            }
            Self::Map(mut members) => {
                random.shuffle(&mut members);
                for (name, value) in members {
                    new_line(random, depth, out);
                    out.push_str(&scalar(&name, random));
                    out.push_str(": ");
                    value.write(random, depth + 1, out);
                }
            }
        }
    }

    fn write_flow(self, random: &mut Random, out: &mut String) {
        match self {
            Self::Text(value) => out.push_str(&scalar(&value, random)),
            Self::List(items) => {
                out.push('[');
                for item in items {
                    item.write_flow(random, out);
                    out.push(',');
                }
                out.push(']');
            }
            Self::Map(mut members) => {
                random.shuffle(&mut members);
                out.push('{');
                for (name, value) in members {
                    out.push_str(&format!("{}: ", scalar(&name, random)));
                    value.write_flow(random, out);
                    out.push(',');
                }
                out.push('}');
            }
        }
    }
}

fn new_line(random: &mut Random, depth: usize, out: &mut String) {
    if random.below(8) == 0 {
        out.push_str("\n\n# a remark");
    }
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
}

fn scalar(value: &str, random: &mut Random) -> String {
    if random.coin() { format!("'{value}'") } else { format!("\"{value}\"") }
}

/// One service, as it is meant.
struct Service {
    image: String,
    words: Vec<String>,
    environment: BTreeSet<String>,
    hosts: BTreeSet<String>,
    before: BTreeSet<String>,
    calls: BTreeSet<String>,
    volumes: BTreeSet<String>,
    secrets: BTreeSet<String>,
    expose: u64,
    megabytes: u64,
    seconds: u64,
    healthy: bool,
}

fn service(random: &mut Random, index: usize, count: usize) -> Service {
    let peer = |other: usize| format!("s{other}:{}", 1000 + 10 * other);
    let pick = |random: &mut Random, of: Vec<String>| of.into_iter().filter(|_| random.coin()).collect();
    Service {
        image: random.one_of(&["i:1", "i:2"]),
        words: vec!["run".to_owned(), random.one_of(&["it", "that"]), random.one_of(&["--fast", "-v"])],
        environment: random.some_of(&["A=1", "B=two words", "C=", "D=\u{1f600}", "Z=\u{fb33}"]),
        hosts: random.some_of(&["a.example", "b.example", "c.example"]),
        before: pick(random, (0..index).map(|other| format!("s{other}")).collect()),
        calls: pick(random, (0..count).filter(|other| *other != index).map(peer).collect()),
        volumes: random.some_of(&["data"]),
        secrets: random.some_of(&["token", "key"]),
        expose: 1000 + 10 * u64::try_from(index).unwrap(),
        megabytes: 16 + random.next() % 100,
        seconds: 1 + random.next() % 20,
        healthy: random.coin(),
    }
}

fn shuffled(random: &mut Random, items: &BTreeSet<String>) -> Vec<String> {
    let mut items: Vec<String> = items.iter().cloned().collect();
    random.shuffle(&mut items);
    items
}

impl Service {
    /// One of the ways in which the service can be written.
    fn yaml(&self, index: usize, random: &mut Random) -> Yaml {
        let mut members = vec![("image", text(&self.image)), ("command", self.command(random))];
        members.push(("environment", self.environment(random)));
        members.push(("extra_hosts", self.extra_hosts(random)));
        let before = shuffled(random, &self.before);
        members.push((
            "depends_on",
            if random.coin() {
                list(before)
            } else {
                let started = |name| (name, map([("condition", text("service_started"))]));
                Yaml::Map(before.into_iter().map(started).collect())
            },
        ));
        members.push((
            "volumes",
            Yaml::List(self.volumes.iter().map(|name| volume(index, name, random)).collect()),
        ));
        let secrets = shuffled(random, &self.secrets);
        members.push(("secrets", Yaml::List(secrets.into_iter().map(|name| secret(name, random)).collect())));
        members.push((
            "expose",
            if random.coin() {
                list([format!("{0}-{1}", self.expose, self.expose + 1)])
            } else {
                list([(self.expose + 1).to_string(), format!("{}/tcp", self.expose)])
            },
        ));
        let bytes = match random.below(3) {
            0 => format!("{}m", self.megabytes),
            1 => format!("{}k", self.megabytes << 10),
            _ => format!("{}", self.megabytes << 20),
        };
        members.push(if random.coin() {
            ("mem_limit", text(bytes))
        } else {
            ("deploy", map([("resources", map([("limits", map([("memory", text(bytes))]))]))]))
        });
        members.push(("stop_grace_period", text(self.duration(random))));
        if self.healthy {
            let test = list(["CMD", "ok"].map(str::to_owned));
            members.push((
                "healthcheck",
                map([("test", test), ("interval", text(self.duration(random))), ("retries", text("3"))]),
            ));
        }
        let egress: Vec<String> =
            shuffled(random, &self.hosts).iter().map(|host| format!("{host}:443")).collect();
        let calls = shuffled(random, &self.calls);
        members.push(("x-casemate", map([("talks-to", list(calls)), ("egress", list(egress))])));
        if random.coin() {
            members.push(("labels", list(["a=b".to_owned()])));
        }
        Yaml::Map(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    fn command(&self, random: &mut Random) -> Yaml {
        if random.coin() { list(self.words.clone()) } else { text(self.words.join(" ")) }
    }

    fn environment(&self, random: &mut Random) -> Yaml {
        let all = shuffled(random, &self.environment);
        if random.coin() {
            return list(all);
        }
        let member =
            |pair: &String| pair.split_once('=').map(|(name, value)| (name.to_owned(), text(value))).unwrap();
        Yaml::Map(all.iter().map(member).collect())
    }

    fn extra_hosts(&self, random: &mut Random) -> Yaml {
        let all = shuffled(random, &self.hosts);
        if random.coin() {
            return list(all.iter().map(|host| format!("{host}=10.0.0.1")));
        }
        Yaml::Map(all.into_iter().map(|host| (host, text("10.0.0.1"))).collect())
    }

    fn duration(&self, random: &mut Random) -> String {
        if random.coin() { format!("{}s", self.seconds) } else { format!("{}ms", self.seconds * 1000) }
    }
}

fn volume(index: usize, name: &str, random: &mut Random) -> Yaml {
    let name = format!("{name}{index}");
    if random.coin() {
        return text(format!("{name}:/data:ro"));
    }
    map([
        ("type", text("volume")),
        ("source", text(name)),
        ("target", text("/data")),
        ("read_only", text("true")),
    ])
}

fn secret(name: String, random: &mut Random) -> Yaml {
    if random.coin() { text(name) } else { map([("source", text(name.clone())), ("target", text(name))]) }
}

/// One of the ways in which the whole file can be written.
fn file(services: &[Service], random: &mut Random) -> String {
    let all = services.iter().enumerate();
    let volumes = all
        .clone()
        .flat_map(|(index, service)| service.volumes.iter().map(move |name| format!("{name}{index}")));
    let external = |name: &str| (name.to_owned(), map([("external", text("true"))]));
    let mut members = vec![
        ("name".to_owned(), text("t")),
        ("volumes".to_owned(), Yaml::Map(volumes.map(|name| (name, Yaml::Map(Vec::new()))).collect())),
        ("secrets".to_owned(), Yaml::Map(["token", "key"].map(external).into())),
    ];
    let services = all.map(|(index, service)| (format!("s{index}"), service.yaml(index, random))).collect();
    members.push(("services".to_owned(), Yaml::Map(services)));
    let mut out = String::new();
    Yaml::Map(members).write(random, 0, &mut out);
    let out = unquoted(&out);
    if random.below(4) == 0 { out.replace('\n', "\r\n") } else { out }
}

/// Booleans and numbers that must not be text.
fn unquoted(text: &str) -> String {
    ["true", "3"].iter().fold(text.to_owned(), |text, word| {
        text.replace(&format!("'{word}'"), word).replace(&format!("\"{word}\""), word)
    })
}

fn images() -> BTreeMap<String, ImageFacts> {
    let facts = |tag: &str| ImageFacts {
        pin: ImagePin { manifest: Sha256::of(tag.as_bytes()), config: Sha256::ZERO, rootfs: Sha256::ZERO },
        entrypoint: Vec::new(),
        command: Vec::new(),
        environment: [("LANG".to_owned(), "C".to_owned())].into(),
        working_dir: String::new(),
        user: User { uid: 1, gid: 1 },
    };
    ["i:1", "i:2"].map(|tag| (tag.to_owned(), facts(tag))).into()
}

fn lock_of(text: &str, random: &mut Random) -> Vec<u8> {
    // What a machine may have besides.
    let machine: BTreeMap<String, String> =
        random.some_of(&["HOME", "LANG", "TZ"]).into_iter().map(|name| (name.clone(), name)).collect();
    let name = random.one_of(&["compose.yaml", "/srv/a b/docker-compose.yml"]);
    let compose =
        compose::parse(&name, text, &machine).unwrap_or_else(|problems| panic!("{problems}\n{text}"));
    compose.resolve(&images()).unwrap().to_json().unwrap()
}

#[test]
fn the_same_composition_gives_the_same_bytes_however_it_is_written() {
    let mut locks = BTreeSet::new();
    let mut texts = BTreeSet::new();
    for seed in 0..COMPOSITIONS {
        let mut random = Random(seed);
        let count = 1 + random.below(5);
        let services: Vec<Service> = (0..count).map(|index| service(&mut random, index, count)).collect();
        let first = file(&services, &mut random);
        let lock = lock_of(&first, &mut random);
        for _ in 1..WRITTEN {
            let other = file(&services, &mut random);
            let found = lock_of(&other, &mut random);
            assert!(
                found == lock,
                "seed {seed}\n{first}\n=====\n{other}\n=====\n{}",
                difference(&lock, &found)
            );
            texts.insert(other);
        }
        assert_eq!(Lock::from_json(&lock).unwrap().to_json().unwrap(), lock);
        locks.insert(lock);
    }
    // The test would say nothing of compositions that are all alike, or are written in one way.
    assert!(locks.len() > 140 && texts.len() > 700, "{} {}", locks.len(), texts.len());
}

fn difference(a: &[u8], b: &[u8]) -> String {
    let [a, b] = [a, b].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let lines = a.lines().zip(b.lines()).find(|(a, b)| a != b);
    format!("{lines:?}")
}
