//! Two resolved models in one form, so that only a difference in meaning is left: ours keeps the form that a value was
//! written in, Docker Compose's has the long forms, sizes in bytes and durations in its own spelling.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Keys of a service that are compared. Left out are those that mean nothing to one of the two, and `networks`.
const KEYS: [&str; 32] = [
    "annotations",
    "cap_drop",
    "command",
    "container_name",
    "cpu_shares",
    "cpus",
    "depends_on",
    "deploy",
    "entrypoint",
    "environment",
    "expose",
    "extra_hosts",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "labels",
    "mem_limit",
    "pids_limit",
    "platform",
    "ports",
    "read_only",
    "restart",
    "secrets",
    "security_opt",
    "shm_size",
    "stop_grace_period",
    "tmpfs",
    "user",
    "volumes",
    "working_dir",
];

/// `service.key` → value, of a model as `config --format json` prints it.
pub(crate) fn values(text: &str) -> BTreeMap<String, Value> {
    let model: Value = serde_json::from_str(text).unwrap();
    let mut values = BTreeMap::new();
    values.insert("name".to_owned(), model["name"].clone());
    for (service, keys) in model["services"].as_object().unwrap() {
        for key in KEYS {
            if let Some(value) = keys.get(key).filter(|value| !value.is_null()) {
                values.insert(format!("{service}.{key}"), normal(key, value));
            }
        }
    }
    values
}

fn normal(key: &str, value: &Value) -> Value {
    match key {
        "command" | "entrypoint" => match value.as_str() {
            // No command line of the examples quotes anything.
            Some(line) => line.split_whitespace().collect(),
            None => value.clone(),
        },
        "environment" | "labels" | "annotations" => pairs(value, '='),
        "extra_hosts" => {
            let items =
                value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().replacen(':', "=", 1));
            items.collect()
        }
        "depends_on" => depends_on(value),
        "mem_limit" | "shm_size" => json!(bytes(&text(value))),
        "cpus" | "pids_limit" | "cpu_shares" => json!(text(value).parse::<f64>().unwrap()),
        "expose" | "group_add" => value.as_array().unwrap().iter().map(text).collect(),
        "tmpfs" if value.is_string() => json!([value]),
        "stop_grace_period" => json!(milliseconds(value.as_str().unwrap())),
        "healthcheck" => healthcheck(value),
        "deploy" => deploy(value),
        "secrets" => value.as_array().unwrap().iter().map(secret).collect(),
        "ports" => value.as_array().unwrap().iter().map(port).collect(),
        "volumes" => value.as_array().unwrap().iter().map(volume).collect(),
        _ => value.clone(),
    }
}

/// Text or a number, as text.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn pairs(value: &Value, between: char) -> Value {
    let all: Map<String, Value> = match value {
        Value::Array(items) => items
            .iter()
            .map(|item| {
                let (name, value) = item.as_str().unwrap().split_once(between).unwrap();
                (name.to_owned(), json!(value))
            })
            .collect(),
        _ => value
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), json!(text(value))))
            .collect(),
    };
    all.into()
}

fn depends_on(value: &Value) -> Value {
    let long = |condition: &Value, required: bool| json!({ "condition": condition, "required": required });
    let all: Map<String, Value> = match value {
        Value::Array(names) => {
            names.iter().map(|name| (text(name), long(&json!("service_started"), true))).collect()
        }
        _ => value
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, one)| (name.clone(), long(&one["condition"], one["required"] != json!(false))))
            .collect(),
    };
    all.into()
}

fn healthcheck(value: &Value) -> Value {
    let all = value.as_object().unwrap().iter().map(|(key, value)| {
        let value = match key.as_str() {
            "test" if value.is_string() => json!(["CMD-SHELL", value]),
            "interval" | "timeout" | "start_period" | "start_interval" => {
                json!(milliseconds(value.as_str().unwrap()))
            }
            "retries" => json!(text(value)),
            _ => value.clone(),
        };
        (key.clone(), value)
    });
    Value::Object(all.collect())
}

/// Limits in one unit, and without mappings that have nothing in them.
fn deploy(value: &Value) -> Value {
    let Some(members) = value.as_object() else { return value.clone() };
    let kept =
        members.iter().filter(|(_, value)| value.as_object().is_none_or(|members| !members.is_empty()));
    let all = kept.map(|(key, value)| {
        let value = match key.as_str() {
            "memory" => json!(bytes(&text(value))),
            "cpus" => json!(text(value).parse::<f64>().unwrap()),
            _ => deploy(value),
        };
        (key.clone(), value)
    });
    Value::Object(all.collect())
}

fn secret(value: &Value) -> Value {
    let source = value.as_str().or_else(|| value["source"].as_str()).unwrap();
    let target = value["target"].as_str().unwrap_or(source).trim_start_matches("/run/secrets/");
    json!({ "source": source, "target": target })
}

/// What is written; that the address differs where none is, `docs/compose.md` says.
fn port(value: &Value) -> Value {
    let long = |address: &str, published: &str, target: &str| json!({ "host_ip": address, "published": published, "target": target });
    if let Some(text) = value.as_str() {
        let mut parts = text.rsplitn(3, ':');
        let (target, published) = (parts.next().unwrap(), parts.next().unwrap());
        return long(parts.next().unwrap_or_default(), published, target);
    }
    long(value["host_ip"].as_str().unwrap_or_default(), &text(&value["published"]), &text(&value["target"]))
}

fn volume(value: &Value) -> Value {
    let long = |kind: &str, source: &str, target: &str, read_only: bool| json!({ "type": kind, "source": source, "target": target, "read_only": read_only });
    if let Some(text) = value.as_str() {
        let parts: Vec<&str> = text.split(':').collect();
        return long("volume", parts[0], parts[1], parts.get(2) == Some(&"ro"));
    }
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    long(text("type"), text("source"), text("target"), value["read_only"] == json!(true))
}

/// `512m`, `1g`, `64M`, `2gb`, `134217728`.
fn bytes(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let shift = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        other => panic!("unit {other}"),
    };
    digits.parse::<u64>().unwrap() << shift
}

/// `1m30s`, `500ms`.
fn milliseconds(text: &str) -> u64 {
    let mut rest = text;
    let mut sum = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap();
        let number: u64 = rest[..digits].parse().unwrap();
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        sum += number
            * match &rest[..unit] {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                other => panic!("unit {other}"),
            };
        rest = &rest[unit..];
    }
    sum
}
