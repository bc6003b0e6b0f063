//! What is another company's: answered like what does not exist, in every word and everywhere, and left alone.

use std::collections::HashSet;

use environment_operator::api::{Environment, EnvironmentLease, LeasePhase, Reason};
use harness::operator::Operator;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};

use crate::support::{TestEnvironment, id_of, lease};

mod case;
mod stranger;

use case::Case;
use stranger::{Stranger, both};

/// What is told of leases, without the words that each of those names in its own spec: these its author has written.
struct Own(Vec<(Vec<String>, Vec<String>)>);

impl Own {
    fn of(leases: &[EnvironmentLease]) -> Self {
        let own = leases.iter().map(|lease| {
            let mut words = Vec::new();
            collect(&json!(lease.spec), &mut words);
            (vec![lease.uid().unwrap(), lease.name_any()], words)
        });
        Self(own.collect())
    }

    /// A text, without what the leases that it speaks of have named themselves.
    fn taken_from(&self, text: &str) -> String {
        let in_name = |character: char| character.is_ascii_alphanumeric() || character == '-';
        let speaks_of: HashSet<&str> = text.split(|character| !in_name(character)).collect();
        let of = self
            .0
            .iter()
            .filter(|(called, _)| called.iter().any(|name| speaks_of.contains(name.as_str())));
        of.flat_map(|(_, words)| words)
            .fold(text.to_owned(), |text, word| text.replace(word, "<own>"))
    }
}

/// All texts of a value.
fn collect(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| collect(item, texts)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Nothing of the other company stands in what is ours to read, nor in a log line that is about us, nor in any metric.
async fn nothing_is_told(ours: &TestEnvironment<'_>, stranger: &Stranger<'_>, operator: &Operator) {
    let leases: Api<EnvironmentLease> = ours.leases();
    let environments: Api<Environment> = ours.environments();
    let leases = leases.list(&ListParams::default()).await.unwrap().items;
    let environments = environments.list(&ListParams::default()).await.unwrap().items;
    let own = Own::of(&leases);
    let status = |lease: &EnvironmentLease| own.taken_from(&json!([lease.name_any(), lease.status]).to_string());
    let mut told: Vec<String> = leases.iter().map(status).collect();
    told.extend(environments.iter().map(|object| json!(object).to_string()));
    let events = ours.all_events().await;
    told.extend(events.iter().map(|event| own.taken_from(&event.to_string())));
    let log = operator.log();
    let of_us = |line: &&str| {
        line.contains(ours.namespace.name()) || leases.iter().any(|lease| line.contains(&lease.uid().unwrap()))
    };
    let lines = log.lines().filter(of_us).filter(|line| !line.contains("namespaces="));
    told.extend(lines.map(|line| own.taken_from(line)));
    let metrics = operator.get("/metrics").await.unwrap().body;
    for name in [ours.namespace.name(), &ours.company().to_string()] {
        assert!(!metrics.contains(name), "a metric names {name}");
    }
    told.push(metrics);
    assert!(
        told.len() > leases.len() * 3,
        "statuses, Events and log lines were found"
    );
    for secret in stranger.secrets() {
        let teller = told.iter().find(|text| text.contains(&secret));
        assert_eq!(teller, None, "tells of {secret}");
    }
}

#[tokio::test]
async fn what_is_another_company_s_is_answered_like_what_does_not_exist() {
    let (ours, stranger, operator) = both().await;
    let our_run = ours.insert_run().await;
    let before = stranger.rows().await;
    let cases = Case::all(&stranger, our_run);
    for case in &cases {
        let phase = if case.reason == Reason::RunGone {
            LeasePhase::Failed
        } else {
            LeasePhase::Pending
        };
        case.is_answered_alike(&ours, phase, case.reason).await;
    }
    assert_eq!(stranger.rows().await, before, "nothing of theirs is written or locked");
    nothing_is_told(&ours, &stranger, &operator).await;

    // The end of their run ends their lease and is nothing to us, nor is the waiting itself.
    let versions = async || {
        let leases = ours.leases().list(&ListParams::default()).await.unwrap().items;
        let versions = leases.iter().map(|lease| (lease.name_any(), lease.resource_version()));
        versions.collect::<Vec<_>>()
    };
    let waiting = versions().await;
    stranger.world.set_run_status(&[stranger.run], "failed").await;
    stranger
        .world
        .lease_because("hush-lease", LeasePhase::Failed, Reason::RunFailed)
        .await;
    let probe = ours.granted(lease("probe")).await;
    ours.delete_lease(&probe.name_any()).await;
    assert_eq!(versions().await, waiting);
    nothing_is_told(&ours, &stranger, &operator).await;
    ours.settles().await;
}

#[tokio::test]
async fn a_claim_that_waits_for_another_company_s_times_out_like_one_that_waits_for_nothing() {
    let (ours, stranger, operator) = both().await;
    let our_run = ours.insert_run().await;
    let cases = Case::all(&stranger, our_run);
    for mut case in cases.into_iter().filter(|case| case.reason != Reason::RunGone) {
        for claim in [&mut case.theirs.0, &mut case.nobodys.0] {
            *claim = claim.clone().set("acquireTimeoutSeconds", 0);
        }
        case.is_answered_alike(&ours, LeasePhase::Failed, Reason::AcquireTimedOut)
            .await;
    }
    nothing_is_told(&ours, &stranger, &operator).await;
}

#[tokio::test]
async fn a_default_environment_in_another_company_is_as_if_the_agent_had_none() {
    let (ours, stranger, operator) = both().await;
    let before = stranger.rows().await;
    let mut answers = Vec::new();
    let mut defaults = vec![None];
    defaults.extend(stranger.environments.iter().copied().map(Some));
    for (number, default) in defaults.into_iter().enumerate() {
        let agent = ours.insert_agent(ours.company()).await;
        if let Some(default) = default {
            ours.set_default_environment(agent, default).await;
        }
        let run = ours.insert_run_of(ours.company(), agent, "running", json!({})).await;
        let by_agent = lease(&format!("by-agent-{number}")).set("agentId", json!(agent));
        let by_run = lease(&format!("by-run-{number}")).heartbeat_run(run);
        for claim in [by_agent, by_run] {
            let held = ours.granted(claim).await;
            let row = ours.lease_row(id_of(&held)).await.unwrap();
            assert_eq!(
                (&row["company_id"], &row["provider"]),
                (&json!(ours.company()), &json!("local"))
            );
            answers.push(ours.answer(&held, &[agent.to_string(), run.to_string()]).await);
        }
        let context = &ours.run_row(run).await.unwrap()["context_snapshot"]["paperclipEnvironment"];
        assert_eq!(context["driver"], "local");
    }
    for pair in answers.chunks(2).skip(1) {
        assert_eq!(pair, &answers[..2]);
    }
    // Setting a default locks the row that it names; that was the Paperclip server's doing.
    let unlocked = |rows: Vec<Value>| -> Vec<Value> {
        rows.into_iter()
            .map(|mut row| {
                row["xmax"].take();
                row
            })
            .collect()
    };
    assert_eq!(unlocked(stranger.rows().await), unlocked(before));
    nothing_is_told(&ours, &stranger, &operator).await;
    stranger.world.release("hush-lease").await;
    stranger.world.lease_in("hush-lease", LeasePhase::Released).await;
    ours.settles().await;
}
