//! Manifests that the API server refuses, each with its whole message.

mod environments;
mod leases;
mod reports;

use environment_operator::api;
use serde_json::Value;
use strum::VariantArray as _;

use crate::support::{Attempt, Kind, Namespaced, schema, visit_rules};

/// Something that is refused, and the message that the user reads.
pub struct Case {
    pub kind: Kind,
    pub attempt: Attempt,
    pub refusal: &'static str,
}

/// Every case of every table.
pub fn cases() -> Vec<Case> {
    [environments::cases(), leases::cases(), reports::cases()]
        .into_iter()
        .flatten()
        .collect()
}

#[tokio::test]
async fn every_bad_manifest_is_refused_with_a_message_that_says_what_to_write_instead() {
    let namespace = Namespaced::new("refused").await;
    let cases = cases();
    assert!(cases.len() >= 40, "only {} bad manifests", cases.len());
    let mut wrong = Vec::new();
    for Case { kind, attempt, refusal } in &cases {
        let refusal = whole(refusal);
        let answer = attempt.run(&namespace.client, api::GROUP, &namespace.name, *kind).await;
        if answer.as_ref().err().map(String::as_str) != Some(refusal.as_str()) {
            wrong.push(format!(
                "{attempt:?}\n  expected: {refusal}\n  answered: {}",
                told(&answer)
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn every_rule_has_a_sentence_that_a_bad_manifest_shows() {
    for kind in [Kind::Environment, Kind::Lease] {
        visit_rules(schema(&mut kind.definition()), "", &mut |path, rules| {
            for rule in rules {
                let message = rule.message.as_ref().expect("a rule has a message");
                let shown = cases()
                    .iter()
                    .any(|case| case.kind == kind && case.refusal.contains(message));
                assert!(shown, "{}{path}: no bad manifest shows {message:?}", kind.name());
            }
        });
    }
}

/// The whole message: `{unchecked}` stands for what the API server adds where the schema refuses before the rules are
/// asked, `{reasons}` for the closed set of reasons.
pub fn whole(refusal: &str) -> String {
    let reasons: Vec<_> = api::Reason::VARIANTS
        .iter()
        .map(|reason| format!("{:?}", reason.into_str()))
        .collect();
    refusal.replace("{reasons}", &reasons.join(", ")).replace(
        "{unchecked}",
        "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; \
         correct the existing errors to complete validation",
    )
}

fn told(answer: &Result<Value, String>) -> String {
    match answer {
        Ok(object) => format!("admitted: {object}"),
        Err(message) => message.clone(),
    }
}
