//! What is wrong with one object, or happens to it, is of no concern to others.

use super::*;
use crate::runtime::metrics::Cause;

#[tokio::test(start_paused = true)]
async fn a_claim_that_can_not_be_decided_holds_up_no_claim_of_another_environment() {
    let world = world().await;
    world.make_namespace(namespace("other", 3));
    world.make_environment(environment("other", "box", 4));
    world.settle(REST).await;
    world.database.set_panicking(uid(10), true);
    // Seen and never looked at: as if its key had been lost.
    let stuck = claim("team", "stuck", 10, "box");
    let stuck: LeaseObject = world.cluster.make("leases", stuck);
    world.context.cache.note(|cache| drop(cache.apply_lease(stuck)));
    world.make_lease(claim("other", "x", 11, "box"));
    world.make_lease(claim("team", "behind", 12, "box"));
    world.settle(REST).await;
    let x = world.shown("other", "x").unwrap();
    assert_eq!(x[0], "Active", "another company's: {x:?}");
    // Behind it, in its own line, a claim says so after a moment, and times out.
    assert_eq!(phase(&world, "behind"), None);
    tokio::time::advance(Duration::from_secs(3)).await;
    world.settle(REST).await;
    let [phase, reason, message] = world.shown("team", "behind").unwrap();
    assert_eq!((phase.as_str(), reason.as_str()), ("Pending", "CapacityFull"));
    assert_eq!(message, "claims that came earlier are looked at first");
    for _ in 0..20 {
        tokio::time::advance(Duration::from_secs(5)).await;
        world.settle(REST).await;
    }
    let [phase, reason, _] = world.shown("team", "behind").unwrap();
    assert_eq!((phase.as_str(), reason.as_str()), ("Failed", "AcquireTimedOut"));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_panics_is_released_comes_back_later_and_holds_up_nobody() {
    let world = world().await;
    world.database.set_panicking(uid(10), true);
    world.make_lease(claim("team", "first", 10, "box"));
    world.make_lease(claim("team", "second", 11, "box"));
    world.settle(REST).await;
    assert_eq!(phase(&world, "second").as_deref(), Some("Active"));
    assert_eq!(world.context.queue.size(Instant::now()).timers[&Cause::Retry], 1);
    world.database.set_panicking(uid(10), false);
    tokio::time::advance(Duration::from_secs(10)).await;
    world.settle(REST).await;
    assert_eq!(
        phase(&world, "first").as_deref(),
        Some("Pending"),
        "it is its turn after the second"
    );
}

#[tokio::test(start_paused = true)]
async fn an_event_costs_what_it_concerns_and_nothing_of_other_companies() {
    let world = reconciler();
    let mut number = 1_000;
    let mut next = || {
        number += 1;
        number
    };
    for company in 0..20 {
        let name = format!("team-{company}");
        world.make_namespace(namespace(&name, next()));
        for environment_name in ["box", "other"] {
            world.make_environment(environment(&name, environment_name, next()));
        }
        for claims in 0..5 {
            let mut free = claim(&name, &format!("default-{claims}"), next(), "box");
            free["spec"].as_object_mut().unwrap().remove("environmentRef");
            world.make_lease(free);
            world.make_lease(claim(&name, &format!("named-{claims}"), next(), "missing"));
        }
    }
    let cache = world.context.cache();
    let edited = cache.environments.named("team-7", "box").unwrap();
    assert_eq!(cache.claims_for(edited).len(), 5, "those of its company that name none");
    let row = edited.meta.uid;
    assert_eq!(cache.leases_of_row(row, Some(edited)).len(), 5);
    assert_eq!(
        cache
            .environments_of_company(cache.namespaces["team-7"].meta.uid)
            .count(),
        2
    );
    let mut changed = cache.namespaces["team-7"].clone();
    drop(cache);
    changed.meta.resource_version = ResourceVersion::parse("999999").unwrap();
    changed.company_label = Some(uid(5).to_string());
    let woken = world
        .context
        .cache
        .change(|cache| cache.apply_namespace(changed), |_, _| true);
    assert_eq!(woken.len(), 2 + 10, "what is in that namespace");
    assert!(
        woken
            .iter()
            .all(|(_, lane)| lane.company == uid(5) && lane.class == Class::Grant)
    );
}
