//! What is heard, read or found out late: nothing is lost for it, and nothing comes back.

use futures::FutureExt as _;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_made_again_under_its_name_while_a_status_is_written_is_decided_at_once() {
    let world = world().await;
    world.make_lease(claim("team", "again", 10, "box"));
    // Between the look and the write the object is deleted and made anew; the watch has not told yet.
    let cluster = world.cluster.clone();
    world.cluster.before_next_patch(move || {
        cluster.remove::<LeaseObject>("leases", "team", "again").unwrap();
        cluster.make::<LeaseObject>("leases", claim("team", "again", 11, "box"));
    });
    world.settle(REST).await;
    assert_eq!(phase(&world, "again").as_deref(), Some("Active"));
    // What the watch tells late of the first one touches the second no more.
    let mut late = claim("team", "again", 10, "box");
    late["metadata"]["resourceVersion"] = json!("4");
    late["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let late = LeaseObject::decode("", "", late).unwrap();
    let deleted = late.clone();
    world.context.learn(|cache| cache.apply_lease(late));
    world.context.learn(|cache| cache.delete_lease(deleted));
    world.settle(REST).await;
    assert_eq!(phase(&world, "again").as_deref(), Some("Active"));
    assert_eq!(world.database.active(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_environment_that_is_made_again_under_its_name_while_a_status_is_written_is_mirrored_at_once() {
    let world = world().await;
    world.make_environment(environment("team", "again", 20));
    let cluster = world.cluster.clone();
    world.cluster.before_next_patch(move || {
        cluster
            .remove::<EnvironmentObject>("environments", "team", "again")
            .unwrap();
        cluster.make::<EnvironmentObject>("environments", environment("team", "again", 21));
    });
    world.settle(REST).await;
    world.make_lease(claim("team", "x", 10, "again"));
    world.settle(REST).await;
    assert_eq!(phase(&world, "x").as_deref(), Some("Active"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_after_the_deletion_was_dealt_with_brings_no_ghost_back() {
    let world = world().await;
    let version = ResourceVersion::parse("1").unwrap();
    world
        .context
        .learn(|cache| cache.reset_leases(None, Vec::new(), &version));
    let lease = world.make_lease(claim("team", "x", 10, "box"));
    world.delete_lease_object("team", "x");
    world.settle(REST).await;
    let before = world.context.cache().sizes();
    world.context.learn(|cache| cache.read_lease(lease));
    assert_eq!(world.context.cache().sizes(), before);
}

#[tokio::test(start_paused = true)]
async fn what_a_reconcile_of_a_former_leadership_has_found_out_moves_nobody_in_line() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "box"));
    let former = Looked {
        id: uid(10),
        term: world.context.cache().term(),
    };
    // The replica follows for a while, and leads again; meanwhile the claim is deleted, and a list has shown it.
    world.context.queue.close();
    let version = ResourceVersion::parse("100").unwrap();
    world.delete_lease_object("team", "x");
    world.context.learn(|cache| cache.forget_gone_leases(&version));
    world.context.queue.open();
    world.context.learn(|cache| cache.begin_term(Instant::now()));
    let limited = crate::cache::Limited {
        row: uid(2),
        company: uid(1),
        free: 1,
    };
    world.context.learn(|cache| cache.stand(former, limited).1);
    world
        .context
        .cache
        .note(|cache| cache.note_namespace(former.id, uid(1)));
    let sizes = world.context.cache().sizes();
    let line = sizes.iter().find(|(name, _)| *name == "wait queue: claims").unwrap();
    assert_eq!(line.1, 0, "{sizes:?}");
    // One that is there, and has not been looked at in this leadership, keeps its turn in doubt.
    world.make_lease(claim("team", "y", 11, "box"));
    let term = world.context.cache().term();
    world.context.learn(|cache| {
        cache.stand_aside(Looked {
            id: uid(11),
            term: term - 1,
        })
    });
    world.make_lease(claim("team", "z", 12, "box"));
    let z = Looked { id: uid(12), term };
    world.context.learn(|cache| {
        let (place, wakes) = cache.stand(z, limited);
        assert_eq!(place, crate::cache::wait_queue::Position::InDoubt);
        wakes
    });
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_granted_before_its_environment_is_shown_is_counted_there() {
    let world = world().await;
    world.make_lease(claim("team", "x", 10, "new"));
    world.settle(REST).await;
    // Between the row of the environment and its first status a claim is granted that has waited for it.
    let other = world.clone();
    world.cluster.before_next_patch(move || {
        other.leases.reconcile(uid(10)).now_or_never().unwrap().unwrap();
        assert_eq!(phase(&other, "x").as_deref(), Some("Active"));
    });
    world.make_environment(environment("team", "new", 20));
    for _ in 0..3 {
        world.settle(REST).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let shown = world.cluster.get("environments", "team", "new").unwrap();
    assert_eq!(shown["status"]["activeLeases"], 1, "{shown}");
}

#[tokio::test(start_paused = true)]
async fn what_conflicts_although_nothing_newer_is_there_is_tried_later_and_later() {
    let world = world().await;
    // As after a restore of etcd beneath a running operator: what is read is older than what is known.
    let version = json!("1000000");
    let mut lease = claim("team", "x", 10, "box");
    let mut of_environment = environment("team", "other", 20);
    let _: LeaseObject = world.cluster.make("leases", lease.clone());
    let _: EnvironmentObject = world.cluster.make("environments", of_environment.clone());
    for object in [&mut lease, &mut of_environment] {
        object["metadata"]["resourceVersion"] = version.clone();
        object["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    let lease = LeaseObject::decode("", "", lease).unwrap();
    let of_environment = EnvironmentObject::decode("", "", of_environment).unwrap();
    world
        .context
        .learn(|cache| cache.apply_lease(lease).and(cache.apply_environment(of_environment)));
    let (mut tries, begun) = (0, Instant::now());
    while tries < 1_000 && begun.elapsed() < Duration::from_secs(60) {
        let key = world.context.queue.next().await;
        tries += 1;
        crate::controller::workers::reconcile(&*world, key).await.unwrap();
        world.context.queue.done(key);
    }
    assert!(tries < 200, "{tries} tries in {:?}", begun.elapsed());
}
