//! `casemate ear`: keys for signed results, and checking a result that somebody else signed.

use std::path::PathBuf;

use casemate_endorsements::{KEY_BYTES_MAX, signing_key_pem};
use casemate_jose::SigningKey;
use casemate_protocol::Refusal;
use casemate_protocol::ear::{EAR_PROFILE, EAR_TYP, Ear, Tier};
use casemate_protocol::jwk::EcJwk;
use casemate_verifier::{JWT_BYTES_MAX, UnixTime, verify_jwt};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Global;
use crate::commands::verify;
use crate::failure::{Failure, Kind, Outcome};
use crate::inputs;
use crate::lines;

/// What `ear` takes.
#[derive(Args, Debug)]
#[command(before_help = "Example: casemate ear keygen -o ear-key.pem > ear-key.jwk")]
pub(crate) struct EarArgs {
    #[command(subcommand)]
    command: EarCommand,
}

#[derive(Subcommand, Debug)]
enum EarCommand {
    /// Make a key for `verify --ear-key`, and print its public half as JWK
    #[command(before_help = "Example: casemate ear keygen -o ear-key.pem > ear-key.jwk")]
    Keygen(KeygenArgs),
    /// Check a signed result: signature, profile, time, and what it says
    #[command(before_help = "Example: casemate ear verify result.jwt --key ear-key.jwk")]
    Verify(CheckArgs),
}

#[derive(Args, Debug)]
struct KeygenArgs {
    /// Where the private key goes, for its owner alone. A file that is there is never replaced
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

#[derive(Args, Debug)]
struct CheckArgs {
    /// The token, as `verify --ear` wrote it
    token: PathBuf,
    /// Public key of whoever signed it: the JWK that `ear keygen` printed
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Time to check it at [default: now]
    #[arg(long, value_name = "RFC3339")]
    now: Option<jiff::Timestamp>,
}

/// Makes a key or checks a token.
pub(crate) fn run(global: &Global, args: &EarArgs) -> Outcome {
    match &args.command {
        EarCommand::Keygen(args) => keygen(args),
        EarCommand::Verify(args) => check(global, args),
    }
}

fn keygen(args: &KeygenArgs) -> Outcome {
    if args.output.exists() {
        return Err(Failure::input(
            format!("{}: there is a file already", args.output.display()),
            "name another file; a key that is lost cannot be made again",
        ));
    }
    let failed = |error: &dyn std::fmt::Display| Failure::environment(error, "try again");
    let key = SigningKey::generate().map_err(|error| failed(&error))?;
    let pem = signing_key_pem(&key).map_err(|error| failed(&error))?;
    inputs::write_private_file(&args.output, pem.as_bytes())?;
    lines::print(json!(key.jwk()));
    Ok(0)
}

/// Exit code 0 where the result is signed by the key, current, and affirming or a warning; 1 otherwise.
fn check(global: &Global, args: &CheckArgs) -> Outcome {
    let todo = "give the JWK that `casemate ear keygen` printed";
    let key = inputs::read_bytes(&args.key, KEY_BYTES_MAX, todo)?;
    let key: EcJwk = serde_json::from_slice(&key).map_err(|error| {
        Failure::input(format!("{}: not a public JWK: {error}", args.key.display()), todo)
    })?;
    let token = inputs::read_bytes(&args.token, JWT_BYTES_MAX, "give a token of `casemate verify --ear`")?;
    let now = verify::now(args.now)?;
    match judge(token.trim_ascii(), &key, now) {
        Ok(ear) if global.json => {
            lines::print(json!(ear));
            Ok(if ear.status == Tier::Contraindicated { Kind::Refused.code() } else { 0 })
        }
        Ok(ear) => {
            tell(&ear);
            Ok(if ear.status == Tier::Contraindicated { Kind::Refused.code() } else { 0 })
        }
        Err(refusal) => Err(Failure::refused(
            format!("{} is refused", args.token.display()),
            *refusal,
            "ask whoever signs results for a fresh one, and for their key",
        )),
    }
}

/// The claims of a token that this key signed and that is current.
fn judge(token: &[u8], key: &EcJwk, now: UnixTime) -> Result<Ear, Box<Refusal>> {
    let payload = verify_jwt(token, EAR_TYP, key).map_err(Box::new)?;
    let refused = |rule, expected: String, found: String| Box::new(Refusal::new(rule, expected, found));
    let ear: Ear = serde_json::from_slice(&payload)
        .map_err(|error| refused("ear.claims", "claims of an EAR".into(), error.to_string()))?;
    if ear.eat_profile != EAR_PROFILE {
        return Err(refused("ear.profile", EAR_PROFILE.into(), ear.eat_profile));
    }
    let (from, until) = (UnixTime(ear.iat), UnixTime(ear.exp));
    if now < from || now >= until {
        return Err(refused("ear.time", format!("a time from {from} and before {until}"), now.to_string()));
    }
    let worst = ear.submods.values().map(|part| part.status).max();
    if worst.is_none_or(|worst| ear.status < worst) {
        let found = worst.map_or("no submodule", Tier::name).to_owned();
        return Err(refused("ear.status", format!("no submodule worse than {}", ear.status.name()), found));
    }
    Ok(ear)
}

fn tell(ear: &Ear) {
    lines::print(format!(
        "signed by the given key; {} from {}",
        ear.verifier_id.build, ear.verifier_id.developer
    ));
    lines::print(format!("time      {} to {}", UnixTime(ear.iat), UnixTime(ear.exp)));
    for (name, part) in &ear.submods {
        lines::print(format!("{:24}  {}", lines::printable(name.as_bytes()), part.status.name()));
        for (category, value) in &part.trustworthiness {
            lines::print(format!("  {:22}  {value}", lines::printable(category.as_bytes())));
        }
    }
    lines::print(format!("verdict: {}", ear.status.name()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ear(status: &str, worst: &str) -> Ear {
        let part = json!({"ear_status": worst, "ear_appraisal_policy_ids": ["p"]});
        serde_json::from_value(json!({
            "eat_profile": EAR_PROFILE, "ear_status": status, "iat": 100, "exp": 200,
            "ear_verifier_id": {"developer": "d", "build": "b"}, "submods": {"platform": part},
        }))
        .unwrap()
    }

    fn rule(token: &str, key: &SigningKey, now: u64) -> Result<Tier, String> {
        judge(token.as_bytes(), &key.jwk(), UnixTime(now))
            .map(|ear| ear.status)
            .map_err(|refusal| refusal.rule)
    }

    #[test]
    fn a_token_counts_for_its_key_and_its_time_alone() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let token = key.sign_jwt(EAR_TYP, &ear("warning", "warning")).unwrap();
        for now in [100, 199] {
            assert_eq!(rule(&token, &key, now), Ok(Tier::Warning));
        }
        for now in [99, 200] {
            assert_eq!(rule(&token, &key, now), Err("ear.time".into()));
        }
        assert_eq!(rule(&token, &other, 150), Err("jwt.signature".into()));
        let typed = key.sign_jwt("eat+jwt", &ear("warning", "warning")).unwrap();
        assert_eq!(rule(&typed, &key, 150), Err("jwt.header".into()));
    }

    #[test]
    fn a_token_that_is_better_than_its_parts_or_of_another_profile_is_refused() {
        let key = SigningKey::generate().unwrap();
        let signed = |ear: &Ear| key.sign_jwt(EAR_TYP, ear).unwrap();
        let flattering = ear("affirming", "contraindicated");
        assert_eq!(rule(&signed(&flattering), &key, 150), Err("ear.status".into()));
        let mut empty = ear("affirming", "affirming");
        empty.submods.clear();
        assert_eq!(rule(&signed(&empty), &key, 150), Err("ear.status".into()));
        let mut foreign = ear("affirming", "affirming");
        foreign.eat_profile = "tag:other".into();
        assert_eq!(rule(&signed(&foreign), &key, 150), Err("ear.profile".into()));
        let no_ear = key.sign_jwt(EAR_TYP, &json!({"eat_profile": EAR_PROFILE})).unwrap();
        assert_eq!(rule(&no_ear, &key, 150), Err("ear.claims".into()));
    }
}
