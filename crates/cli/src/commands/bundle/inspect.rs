//! `casemate bundle inspect`: what a bundle holds, until when, and who signed it. It verifies the file's signature and
//! nothing else: the parts are verified with evidence, by `casemate verify`.

use std::path::PathBuf;

use casemate_endorsements::{Bundle, Inspection};
use casemate_verifier::{CollateralPart, UnixTime};
use clap::Args;
use serde_json::{Map, Value, json};

use super::gather::Sources;
use crate::cli::Global;
use crate::failure::{Failure, Outcome, one_line};
use crate::inputs;
use crate::lines;

/// What `bundle inspect` takes.
#[derive(Args, Debug)]
#[command(
    before_help = "Example: casemate bundle inspect bundle.json",
    after_help = "Exit code 0 where every part can be read and the file's signature, if it has one, holds; 2 where not. A \
        bundle that has expired is shown, and said to have expired. Dates, numbers and names are those that the parts \
        give of themselves; `casemate verify` verifies them."
)]
pub(super) struct InspectArgs {
    /// The bundle
    bundle: PathBuf,
    /// Time to compare its dates with [default: now]
    #[arg(long, value_name = "RFC3339")]
    now: Option<jiff::Timestamp>,
}

/// Shows it.
pub(super) fn run(global: &Global, args: &InspectArgs) -> Outcome {
    let bundle = inputs::read_bundle_file(&args.bundle)?;
    let now = inputs::time_of(args.now)?;
    show(global, &bundle, now, None);
    let inspection = casemate_endorsements::inspect(bundle.contents());
    match inspection.parts.iter().find(|part| part.dates.is_err()) {
        None => Ok(0),
        Some(part) => Err(Failure::input(
            format!("{}: {} cannot be read", args.bundle.display(), part.name),
            "make the bundle anew with `casemate bundle create`",
        )),
    }
}

/// Prints what a bundle holds, and where each part is from where that is known; as JSON where that is asked for.
pub(super) fn show(global: &Global, bundle: &Bundle, now: UnixTime, sources: Option<&Sources>) {
    let inspection = casemate_endorsements::inspect(bundle.contents());
    if global.json {
        let mut shown = as_json(bundle, &inspection, now);
        if let (Some(sources), Some(members)) = (sources, shown.as_object_mut()) {
            members.insert("sources".to_owned(), json!(sources));
        }
        lines::print(shown);
        return;
    }
    for line in as_lines(bundle, &inspection, now) {
        lines::print(line);
    }
    for (part, source) in sources.into_iter().flatten() {
        lines::print(format!("from         {part:21}  {}", one_line(source)));
    }
}

fn as_lines(bundle: &Bundle, inspection: &Inspection, now: UnixTime) -> Vec<String> {
    let signed = match bundle.signature() {
        Some(signature) => format!("by {} at {}; the signature holds", signature.signer, signature.signed_at),
        None => "by nobody".to_owned(),
    };
    let mut out = vec![format!("signed       {signed}")];
    for part in &inspection.parts {
        let dates = match &part.dates {
            Ok((from, until)) => format!("{from} to {until}{}", expired(part, now)),
            Err(error) => one_line(&error.to_string()),
        };
        out.push(format!("{:21}  {dates}", part.name));
        for fact in inspection.facts.iter().filter(|fact| fact.part == part.name) {
            out.push(format!("  {:27}  {}", fact.name, one_line(&fact.value)));
        }
    }
    out.push(state(inspection, now));
    out
}

fn expired(part: &CollateralPart, now: UnixTime) -> &'static str {
    match part.dates {
        Ok((_, until)) if until < now => "  EXPIRED",
        Ok((from, _)) if now < from => "  NOT YET VALID",
        _ => "",
    }
}

/// The last line: until when all of it holds, and what ends first.
fn state(inspection: &Inspection, now: UnixTime) -> String {
    let (Some(from), Some(until), Some(first)) =
        (inspection.usable_from, inspection.usable_until, inspection.first_to_expire)
    else {
        return "holds        unknown: a part cannot be read".to_owned();
    };
    if until < now {
        format!("holds        no longer: {first} expired at {until}")
    } else if from > until {
        format!("holds        never: {first} expired before all parts were issued, at {from}")
    } else if now < from {
        format!("holds        not yet: from {from} to {until}; {first} expires first")
    } else {
        format!(
            "holds        until {until}; {first} expires first, in {}",
            span(until.0.saturating_sub(now.0))
        )
    }
}

fn span(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3_600) {
        (0, hours) => format!("{hours} h"),
        (days, _) => format!("{days} days"),
    }
}

fn as_json(bundle: &Bundle, inspection: &Inspection, now: UnixTime) -> Value {
    let part = |part: &CollateralPart| {
        let facts: Map<String, Value> = inspection
            .facts
            .iter()
            .filter(|fact| fact.part == part.name)
            .map(|fact| (fact.name.to_owned(), Value::from(one_line(&fact.value))))
            .collect();
        match &part.dates {
            Ok((from, until)) => json!({
                "part": part.name, "from": from.to_string(), "until": until.to_string(),
                "current": *from <= now && now <= *until, "facts": facts,
            }),
            Err(error) => json!({"part": part.name, "error": one_line(&error.to_string()), "facts": facts}),
        }
    };
    let signature = bundle.signature().map(
        |signature| json!({"signer": signature.signer.to_string(), "signed-at": signature.signed_at.to_string()}),
    );
    let current = matches!(
        (inspection.usable_from, inspection.usable_until),
        (Some(from), Some(until)) if from <= now && now <= until
    );
    json!({
        "signature": signature,
        "time": now.to_string(),
        "parts": inspection.parts.iter().map(part).collect::<Vec<_>>(),
        "usable-from": inspection.usable_from.map(|time| time.to_string()),
        "usable-until": inspection.usable_until.map(|time| time.to_string()),
        "first-to-expire": inspection.first_to_expire,
        "current": current,
    })
}
