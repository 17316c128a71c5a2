//! `casemate ear`: keys for signed results, and checking a result that somebody else signed.

use std::path::PathBuf;

use casemate_canon::Sha384;
use casemate_endorsements::{KEY_BYTES_MAX, signing_key_pem};
use casemate_jose::SigningKey;
use casemate_protocol::Refusal;
use casemate_protocol::ear::{EAR_PROFILE, EAR_TYP, Ear, Tier};
use casemate_protocol::jwk::EcJwk;
use casemate_verifier::{Challenge, JWT_BYTES_MAX, UnixTime, verify_jwt};
use clap::{Args, Subcommand};
use serde_json::json;

use crate::cli::Global;
use crate::commands::verify::{self, Expected};
use crate::failure::{Failure, Kind, Outcome};
use crate::inputs;
use crate::lines;

/// What the exit code says.
const CHECK_HELP: &str = "\
Exit codes:
  0  the token is the signer's, current, an answer to what is given, by the policy given, and affirming or a warning
  1  it is not (the rule is named), or it is contraindicated
  2  an argument or a file is missing or not usable";

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
    /// Check a signed result: signature, profile, time, what it answers, by which policy, and what it says
    #[command(
        before_help = "Example: casemate ear verify result.jwt --key ear-key.jwk --nonce 5f2c9e01aa43 --policy policy.toml",
        after_help = CHECK_HELP
    )]
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
    #[command(flatten)]
    expected: Expected,
    /// The policy that it must have been judged by
    #[arg(long, value_name = "FILE", required_unless_present = "policy_id", conflicts_with = "policy_id")]
    policy: Option<PathBuf>,
    /// Likewise, by its name: `sha384:...`, as `verify` prints it
    #[arg(long, value_name = "SHA384")]
    policy_id: Option<Sha384>,
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
    let failed = |error: &dyn std::fmt::Display| Failure::environment(error, "try again");
    let key = SigningKey::generate().map_err(|error| failed(&error))?;
    let pem = signing_key_pem(&key).map_err(|error| failed(&error))?;
    inputs::write_new_key(&args.output, &pem)?;
    lines::print(json!(key.jwk()));
    Ok(0)
}

/// Exit code 0 where the result is signed by the key, current, of this question and policy, and affirming or a warning; 1
/// otherwise.
fn check(global: &Global, args: &CheckArgs) -> Outcome {
    let todo = "give the JWK that `casemate ear keygen` printed";
    let key = inputs::read_bytes(&args.key, KEY_BYTES_MAX, todo)?;
    let key: EcJwk = serde_json::from_slice(&key).map_err(|error| {
        Failure::input(format!("{}: not a public JWK: {error}", args.key.display()), todo)
    })?;
    let token = inputs::read_bytes(&args.token, JWT_BYTES_MAX, "give a token of `casemate verify --ear`")?;
    let now = verify::now(args.now)?;
    let asked = args.expected.one(&args.token)?;
    let policy = match (&args.policy, args.policy_id) {
        (Some(path), _) => *inputs::read_policy(path)?.id(),
        (None, Some(id)) => id,
        (None, None) => {
            return Err(Failure::input("no policy is given", "give `--policy FILE` or `--policy-id SHA384`"));
        }
    };
    let expected = Bound { challenge: asked.challenge(), policy: policy.to_string() };
    match judge(token.trim_ascii(), &key, now, &expected) {
        Ok(ear) if global.json => {
            lines::print(json!(ear));
            Ok(if ear.status == Tier::Contraindicated { Kind::Refused.code() } else { 0 })
        }
        Ok(ear) => {
            tell(&ear, &expected);
            Ok(if ear.status == Tier::Contraindicated { Kind::Refused.code() } else { 0 })
        }
        Err(refusal) => Err(Failure::refused(
            format!("{} is refused", args.token.display()),
            *refusal,
            "ask whoever signs results for a fresh one, and for their key",
        )),
    }
}

/// What a result must be about.
struct Bound<'a> {
    challenge: Challenge<'a>,
    policy: String,
}

impl Bound<'_> {
    /// Compares the result and each of its parts: a signer's key makes results for many questions and policies.
    fn require(&self, ear: &Ear) -> Result<(), Box<Refusal>> {
        let equal = |rule: &str, part: &str, expected: String, found: String| {
            if expected == found {
                return Ok(());
            }
            Err(Box::new(Refusal::new(rule, format_args!("{part}: {expected}"), found)))
        };
        let text = |nonce: &Option<String>| nonce.clone().unwrap_or_else(|| "none".to_owned());
        equal("ear.nonce", "eat_nonce", text(&self.challenge.eat_nonce()), text(&ear.eat_nonce))?;
        let (name, value) = self.challenge.claim();
        let others = ["nonce", "report-data", "extra-data"];
        let time = json!(UnixTime(ear.iat).to_string());
        for (label, part) in &ear.submods {
            let claims = &part.verifier_claims;
            let found = |name: &str| claims.get(name).map_or_else(|| "none".to_owned(), ToString::to_string);
            for other in others {
                let expected = if other == name { value.to_string() } else { "none".to_owned() };
                equal("ear.nonce", &format!("{other} of {label}"), expected, found(other))?;
            }
            equal("ear.policy", label, self.policy.clone(), part.policy_ids.join(", "))?;
            equal("ear.verifier-claims", &format!("time of {label}"), time.to_string(), found("time"))?;
            if part.status != Tier::Contraindicated {
                let what = format!("rules-failed of {label}");
                equal("ear.verifier-claims", &what, "[]".to_owned(), found("rules-failed"))?;
            }
        }
        Ok(())
    }
}

/// The claims of a token that this key signed, that is current, and that is about what is expected.
fn judge(token: &[u8], key: &EcJwk, now: UnixTime, expected: &Bound<'_>) -> Result<Ear, Box<Refusal>> {
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
    expected.require(&ear)?;
    Ok(ear)
}

fn tell(ear: &Ear, expected: &Bound<'_>) {
    lines::print(format!(
        "signed by the given key; {} from {}",
        lines::printable(ear.verifier_id.build.as_bytes()),
        lines::printable(ear.verifier_id.developer.as_bytes())
    ));
    let (name, value) = expected.challenge.claim();
    lines::print(format!("{name:8}  {}", value.as_str().unwrap_or_default()));
    lines::print(format!("policy    {}", expected.policy));
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

    const DATA: [u8; 64] = [7; 64];
    const EXPECTED: Challenge<'static> = Challenge::ReportData(&DATA);

    fn ear(status: &str, worst: &str) -> Ear {
        let (name, value) = EXPECTED.claim();
        let claims = json!({name: value, "time": UnixTime(100).to_string(), "rules-failed": []});
        let part = json!({
            "ear_status": worst, "ear_appraisal_policy_ids": ["p"], "ear_verifier_claims": claims,
        });
        serde_json::from_value(json!({
            "eat_profile": EAR_PROFILE, "ear_status": status, "iat": 100, "exp": 200, "eat_nonce": EXPECTED.eat_nonce(),
            "ear_verifier_id": {"developer": "d", "build": "b"}, "submods": {"platform": part},
        }))
        .unwrap()
    }

    fn bound<'a>(challenge: Challenge<'a>, policy: &str) -> Bound<'a> {
        Bound { challenge, policy: policy.to_owned() }
    }

    fn rule(token: &str, key: &SigningKey, now: u64) -> Result<Tier, String> {
        judge(token.as_bytes(), &key.jwk(), UnixTime(now), &bound(EXPECTED, "p"))
            .map(|ear| ear.status)
            .map_err(|refusal| refusal.rule)
    }

    #[test]
    fn a_token_for_another_question_or_policy_is_refused() {
        let of = |ear: &Ear, bound: &Bound<'_>| bound.require(ear).map_err(|refusal| refusal.rule);
        let good = ear("warning", "warning");
        let expected = bound(EXPECTED, "p");
        assert_eq!(of(&good, &expected), Ok(()));
        let nonce = "n".repeat(64).parse().unwrap();
        let same_bytes = [7; 64];
        for other in [
            Challenge::ReportData(&[8; 64]),
            Challenge::Nonce(&nonce),
            // The same `eat_nonce`, of another kind of statement.
            Challenge::ExtraData(&same_bytes),
            // Too short for an `eat_nonce`.
            Challenge::ExtraData(&[7]),
        ] {
            assert_eq!(of(&good, &bound(other, "p")), Err("ear.nonce".into()), "{other:?}");
        }
        assert_eq!(of(&good, &bound(EXPECTED, "q")), Err("ear.policy".into()));
        type Change = fn(&mut Ear);
        let changes: [(Change, &str); 6] = [
            (|ear| ear.eat_nonce = None, "ear.nonce"),
            (|ear| drop(part(ear).verifier_claims.remove("report-data")), "ear.nonce"),
            (|ear| drop(part(ear).verifier_claims.insert("nonce".into(), json!("x"))), "ear.nonce"),
            (|ear| part(ear).policy_ids.clear(), "ear.policy"),
            (|ear| drop(part(ear).verifier_claims.insert("time".into(), json!("x"))), "ear.verifier-claims"),
            (|ear| drop(part(ear).verifier_claims.remove("rules-failed")), "ear.verifier-claims"),
        ];
        for (number, (change, rule)) in changes.into_iter().enumerate() {
            let mut bad = good.clone();
            change(&mut bad);
            assert_eq!(of(&bad, &expected), Err(rule.into()), "{number}");
        }
    }

    fn part(ear: &mut Ear) -> &mut casemate_protocol::ear::Submodule {
        ear.submods.get_mut("platform").unwrap()
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
