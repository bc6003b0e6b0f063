//! Which Local object stands for a company's row, and which the operator itself has made.

use environment_operator::store::environment_object::{EnvironmentQuery, EnvironmentSnapshot};
use environment_operator::store::environments::{Archive, EnvironmentOutcome, EnvironmentSync};
use environment_operator::store::local::{IsSpareLocal, OtherLocals};
use environment_operator::store::local_intent::{AbandonLocal, LocalAnswer, LocalIntent, LocalNeed};
use environment_operator::store::{Leader, Store, StoreError, cluster, lead};
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng};
use serde_json::json;
use uuid::Uuid;

use crate::support::*;

impl TestEnvironment {
    async fn view(&self, leader: &Leader, id: Uuid) -> EnvironmentSnapshot {
        let look = EnvironmentQuery {
            id,
            namespace_uid: None,
            company_id: Some(self.company),
            driver: environment_operator::api::Driver::Local,
        };
        EnvironmentQuery::carry_out(&self.store, leader, &[look])
            .await
            .unwrap()
            .remove(0)
    }

    async fn canonical(&self, leader: &Leader) -> Option<Uuid> {
        self.view(leader, Uuid::nil())
            .await
            .canonical
            .map(|canonical| canonical.id)
    }

    async fn sync_by(&self, leader: &Leader, sync: &EnvironmentSync) -> EnvironmentOutcome {
        EnvironmentSync::carry_out(&self.store, leader, std::slice::from_ref(sync))
            .await
            .unwrap()
            .remove(0)
    }

    async fn delete(&self, leader: &Leader, id: Uuid) {
        Archive::carry_out(&self.store, leader, &[Archive(id)]).await.unwrap();
    }

    /// The leader of another installation or cluster.
    async fn leader_of(&self, cluster: &str, installation: &str) -> Leader {
        cluster::admit(&self.store, cluster, &[]).await.unwrap();
        lead::acquire(&self.store, cluster, installation, HOLDER)
            .await
            .unwrap()
            .unwrap()
    }

    fn need(&self, namespace: &str) -> LocalNeed {
        LocalNeed {
            lease_id: Uuid::new_v4(),
            company_id: self.company,
            namespace: namespace.to_owned(),
            namespace_uid: Uuid::from_u128(namespace.bytes().fold(0, |id, byte| id << 8 | u128::from(byte))),
        }
    }

    async fn intend(&self, namespace: &str) -> LocalAnswer {
        LocalNeed::carry_out(&self.store, &self.leader, &[self.need(namespace)])
            .await
            .unwrap()
            .remove(0)
    }

    async fn intended(&self, namespace: &str) -> LocalIntent {
        match self.intend(namespace).await {
            LocalAnswer::Make(intent) => intent,
            LocalAnswer::Present => panic!("it is there"),
        }
    }

    /// A Local object that carries a nonce, in the namespace `team`.
    fn with_nonce(&self, nonce: Uuid) -> EnvironmentSync {
        EnvironmentSync {
            local_intent: Some(nonce),
            ..self.local()
        }
    }

    async fn is_operator_made(&self, sync: &EnvironmentSync) -> bool {
        self.sync_environment(sync).await;
        self.view(&self.leader, sync.id).await.object.unwrap().operator_made
    }
}

#[tokio::test]
async fn the_choice_is_the_first_by_maker_age_and_uid_whatever_the_order_of_coming_and_going() {
    let world = TestEnvironment::new().await;
    // A fixed seed: the cases are many enough, and each run is the same.
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for _ in 0..12 {
        let mut there: Vec<(bool, i64, Uuid)> = Vec::new();
        for _ in 0..12 {
            if there.is_empty() || random.random_ratio(2, 3) {
                let (own, age) = (random.random_bool(0.5), random.random_range(0..3));
                let sync = EnvironmentSync {
                    created_at: moment(age),
                    ..world.local()
                };
                world.sync_environment(&sync).await;
                if own {
                    mark_operator_made(&world, &sync).await;
                }
                there.push((own, age, sync.id));
            } else {
                let gone = there.swap_remove(random.random_range(0..there.len()));
                world.delete(&world.leader, gone.2).await;
            }
            let expected = there.iter().min().map(|(.., id)| *id);
            assert_eq!(world.canonical(&world.leader).await, expected, "{there:?}");
        }
        for (.., id) in there {
            world.delete(&world.leader, id).await;
        }
    }
}

/// What an intent would have done, had there been no other object; the next version is chosen upon.
async fn mark_operator_made(world: &TestEnvironment, sync: &EnvironmentSync) {
    sqlx::query("UPDATE environment_operator.environment_object SET operator_made = true WHERE id = $1")
        .bind(sync.id)
        .execute(world.pool())
        .await
        .unwrap();
    let edited = EnvironmentSync {
        version: version("local", 11, 2),
        ..sync.clone()
    };
    world.sync_environment(&edited).await;
}

#[tokio::test]
async fn only_the_canonical_local_writes_what_it_sets_and_the_next_one_when_it_takes_over() {
    let world = TestEnvironment::new().await;
    let named = |name: &str, age| EnvironmentSync {
        name: Some(name.to_owned()),
        created_at: moment(age),
        ..world.local()
    };
    let (first, second) = (named("First", 1), named("Second", 2));
    let EnvironmentOutcome::Inserted(row) = world.sync_environment(&first).await else {
        panic!()
    };
    assert_eq!(row.name, "First");
    let before = world.rows("SELECT to_jsonb(e) FROM environments e").await;
    let EnvironmentOutcome::Adopted(row) = world.sync_environment(&second).await else {
        panic!()
    };
    assert_eq!(row.name, "First", "a duplicate's fields stay in its object");
    assert_eq!(world.rows("SELECT to_jsonb(e) FROM environments e").await, before);
    let edited = EnvironmentSync {
        version: version("local", 11, 2),
        ..second.clone()
    };
    assert!(matches!(
        world.sync_environment(&edited).await,
        EnvironmentOutcome::AlreadySo(_)
    ));
    assert_eq!(world.rows("SELECT to_jsonb(e) FROM environments e").await, before);

    world.delete(&world.leader, first.id).await;
    assert_eq!(world.canonical(&world.leader).await, Some(edited.id));
    assert_eq!(world.rows("SELECT to_jsonb(e) FROM environments e").await, before);
    let EnvironmentOutcome::Updated(row) = world.sync_environment(&edited).await else {
        panic!("it takes over")
    };
    assert_eq!((row.id, row.name.as_str()), (first.id, "Second"));
    assert!(matches!(
        world.sync_environment(&edited).await,
        EnvironmentOutcome::AlreadySo(_)
    ));
}

#[tokio::test]
async fn a_row_that_was_deleted_comes_back_under_its_id_and_with_what_the_canonical_local_sets() {
    let world = TestEnvironment::new().await;
    let first = EnvironmentSync {
        name: Some("First".to_owned()),
        ..world.local()
    };
    let second = EnvironmentSync {
        created_at: moment(1),
        ..world.local()
    };
    world.sync_environment(&first).await;
    world.sync_environment(&second).await;
    sqlx::query("DELETE FROM environments")
        .execute(world.pool())
        .await
        .unwrap();
    let EnvironmentOutcome::Inserted(row) = world.sync_environment(&second).await else {
        panic!()
    };
    assert_eq!((row.id, row.name.as_str()), (first.id, "Local"));
    let EnvironmentOutcome::Updated(row) = world.sync_environment(&first).await else {
        panic!()
    };
    assert_eq!(row.name, "First");
}

#[tokio::test]
async fn locals_that_come_and_go_at_once_through_two_clusters_leave_one_row_and_the_right_choice_in_each() {
    let world = TestEnvironment::new().await;
    let leaders = [world.leader.clone(), world.leader_of("other", "default").await];
    for _ in 0..5 {
        let mut tasks = Vec::new();
        let mut kept = [Vec::new(), Vec::new()];
        for number in 0..64 {
            let (cluster, stays) = (number % 2, number % 4 < 2);
            let sync = EnvironmentSync {
                created_at: moment(i64::from(number) / 8),
                ..world.local()
            };
            if stays {
                kept[cluster as usize].push((sync.created_at, sync.id));
            }
            let (store, leader) = (world.store.clone(), leaders[cluster as usize].clone());
            tasks.push(tokio::spawn(come_and_go(store, leader, sync, stays)));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for (leader, kept) in leaders.iter().zip(kept) {
            let expected = kept.iter().min().map(|(_, id)| *id);
            assert_eq!(world.canonical(leader).await, expected);
            for (_, id) in kept {
                world.delete(leader, id).await;
            }
            assert_eq!(world.canonical(leader).await, None);
        }
        assert_eq!(world.count("SELECT count(*) FROM environments").await, 1);
    }
}

/// Not one by one, as the mirror would do it: the locks have to hold without.
async fn come_and_go(store: Store, leader: Leader, sync: EnvironmentSync, stays: bool) {
    loop {
        match EnvironmentSync::carry_out(&store, &leader, std::slice::from_ref(&sync)).await {
            Ok(outcomes) => {
                assert!(!matches!(
                    outcomes[0],
                    EnvironmentOutcome::Busy | EnvironmentOutcome::Older
                ));
                break;
            }
            Err(StoreError::Conflict(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    if !stays {
        Archive::carry_out(&store, &leader, &[Archive(sync.id)]).await.unwrap();
    }
}

#[tokio::test]
async fn installations_of_one_cluster_share_the_choice_and_clusters_do_not() {
    let world = TestEnvironment::new().await;
    let beside = world.leader_of("cluster", "beside").await;
    let elsewhere = world.leader_of("elsewhere", "default").await;
    let [first, second, third] = [3, 2, 1].map(|age| EnvironmentSync {
        created_at: moment(age),
        ..world.local()
    });
    world.sync_by(&world.leader, &first).await;
    world.sync_by(&beside, &second).await;
    world.sync_by(&elsewhere, &third).await;
    assert_eq!(world.canonical(&world.leader).await, Some(second.id));
    assert_eq!(world.canonical(&beside).await, Some(second.id));
    assert_eq!(world.canonical(&elsewhere).await, Some(third.id));
    let others = OtherLocals::carry_out(
        &world.store,
        &world.leader,
        &[OtherLocals(first.id), OtherLocals(third.id)],
    )
    .await
    .unwrap();
    assert_eq!(others, [vec![second.id], vec![]]);
}

#[tokio::test]
async fn two_clusters_do_not_fight_over_what_their_objects_set() {
    let world = TestEnvironment::new().await;
    let elsewhere = world.leader_of("elsewhere", "default").await;
    let [mine, theirs] = ["Mine", "Theirs"].map(|name| EnvironmentSync {
        name: Some(name.to_owned()),
        ..world.local()
    });
    world.sync_by(&world.leader, &mine).await;
    world.sync_by(&elsewhere, &theirs).await;
    let before = world.rows("SELECT to_jsonb(e) FROM environments e").await;
    assert_eq!(before[0]["name"], "Theirs", "the later edit stands");
    for _ in 0..3 {
        let outcomes = [
            world.sync_by(&world.leader, &mine).await,
            world.sync_by(&elsewhere, &theirs).await,
        ];
        for outcome in outcomes {
            assert!(matches!(outcome, EnvironmentOutcome::AlreadySo(_)));
        }
    }
    assert_eq!(world.rows("SELECT to_jsonb(e) FROM environments e").await, before);
}

#[tokio::test]
async fn all_claims_of_a_company_intend_one_object_until_it_is_there() {
    let world = TestEnvironment::new().await;
    let needs: Vec<LocalNeed> = (0..64)
        .map(|number| world.need(&format!("team-{}", number % 8)))
        .collect();
    let answers = LocalNeed::carry_out(&world.store, &world.leader, &needs).await.unwrap();
    let LocalAnswer::Make(intent) = answers[0].clone() else {
        panic!()
    };
    assert_eq!(intent.namespace, "team-0");
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    // The next leader goes on with it.
    let successor = world.depose().await;
    let refused = LocalNeed::carry_out(&world.store, &world.leader, &needs).await;
    assert!(matches!(refused, Err(StoreError::Deposed)));
    let again = LocalNeed::carry_out(&world.store, &successor, &[world.need("team-7")])
        .await
        .unwrap();
    assert_eq!(again, [LocalAnswer::Make(intent)]);
    world.sync_by(&successor, &world.local()).await;
    let present = LocalNeed::carry_out(&world.store, &successor, &needs).await.unwrap();
    assert!(present.iter().all(|answer| *answer == LocalAnswer::Present));
    let count = "SELECT count(*) FROM environment_operator.local_intent";
    assert_eq!(world.count(count).await, 1);
}

#[tokio::test]
async fn an_abandoned_intent_gives_way_to_another_namespace_and_is_taken_up_again_in_its_own() {
    let world = TestEnvironment::new().await;
    let first = world.intended("team").await;
    for _ in 0..3 {
        let intent = world.intended("team").await;
        assert_eq!(intent, first, "the same one, however often it is tried");
        AbandonLocal::carry_out(&world.store, &world.leader, &[AbandonLocal(intent.nonce)])
            .await
            .unwrap();
    }
    let second = world.intended("other").await;
    assert_eq!(second.namespace, "other");
    assert_eq!(world.intended("team").await, second);
    assert_eq!(
        world
            .count("SELECT count(*) FROM environment_operator.local_intent")
            .await,
        2
    );
    // The request that was given up arrives after all.
    assert!(world.is_operator_made(&world.with_nonce(first.nonce)).await);
}

#[tokio::test]
async fn an_object_is_the_operators_only_if_it_is_the_first_with_the_nonce_of_its_company_and_namespace() {
    let world = TestEnvironment::new().await;
    let intent = world.intended("team").await;
    assert!(
        !world.is_operator_made(&world.with_nonce(Uuid::new_v4())).await,
        "a nonce that nobody has recorded"
    );
    let elsewhere = EnvironmentSync {
        version: environment_operator::store::ObjectVersion {
            namespace: "other".to_owned(),
            ..version("local", 10, 1)
        },
        ..world.with_nonce(intent.nonce)
    };
    assert!(!world.is_operator_made(&elsewhere).await, "another namespace");
    let own = world.with_nonce(intent.nonce);
    assert!(world.is_operator_made(&own).await);
    assert!(!world.is_operator_made(&world.with_nonce(intent.nonce)).await, "a copy");
    let edited = EnvironmentSync {
        version: version("local", 11, 2),
        local_intent: None,
        ..own
    };
    assert!(
        world.is_operator_made(&edited).await,
        "it stays so without its annotation"
    );
}

#[tokio::test]
async fn a_local_is_spare_only_as_an_unedited_duplicate_of_the_operators() {
    let world = TestEnvironment::new().await;
    let intent = world.intended("team").await;
    let own = world.with_nonce(intent.nonce);
    world.sync_environment(&own).await;
    let spare = async || {
        let answers = IsSpareLocal::carry_out(
            &world.store,
            &world.leader,
            &[IsSpareLocal(own.id), IsSpareLocal(Uuid::new_v4())],
        )
        .await;
        let answers = answers.unwrap();
        assert!(!answers[1], "nothing is known of it");
        answers[0]
    };
    assert!(!spare().await, "it is canonical");
    let users = EnvironmentSync {
        created_at: moment(60),
        ..world.local()
    };
    world.sync_environment(&users).await;
    assert!(spare().await);
    let answer = IsSpareLocal::carry_out(&world.store, &world.leader, &[IsSpareLocal(users.id)])
        .await
        .unwrap();
    assert_eq!(answer, [false], "a user's");
    let edited = EnvironmentSync {
        version: version("local", 11, 2),
        metadata: Some(object(json!({"kept": true}))),
        ..own.clone()
    };
    world.sync_environment(&edited).await;
    assert!(!spare().await, "somebody has edited it");
    world.depose().await;
    let refused = IsSpareLocal::carry_out(&world.store, &world.leader, &[IsSpareLocal(own.id)]).await;
    assert!(matches!(refused, Err(StoreError::Deposed)));
}
