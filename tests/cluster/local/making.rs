//! The operator makes a Local: after a crash, and where a namespace would not have it.

use environment_operator::api::{EnvironmentPhase, LeasePhase, Reason};
use kube::ResourceExt;

use super::{company, locals, uid};
use crate::support::proxy::{Fault, creates};
use crate::support::{TestEnvironment, lease, scope};

/// Whether the operator counts the object as its own.
async fn is_operator_made(world: &TestEnvironment<'_>, id: uuid::Uuid) -> bool {
    sqlx::query_scalar("SELECT operator_made FROM environment_operator.environment_object WHERE id = $1")
        .bind(id)
        .fetch_one(&world.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_kill_between_the_intent_and_the_object_local_makes_one_object_of_the_operators() {
    let worlds = company(2).await;
    let proxy = worlds[0].proxy().await;
    let options = worlds[0].operator().kubeconfig(proxy.kubeconfig()).arg(scope(&worlds));
    let mut operator = options.start().unwrap();
    operator.wait_ready().await;
    for arrives in [false, true] {
        let name = format!("claim-{arrives}");
        let fault = if arrives { Fault::KeepAnswer } else { Fault::Withhold };
        let on_its_way = proxy.spoil(fault, creates("environments"));
        worlds[0].claim(lease(&name)).await;
        on_its_way.wait_for_hits(1).await;
        operator.kill().unwrap();
        on_its_way.discard();
        // The claim that has intended it is gone; another one, elsewhere, needs it as much.
        worlds[0].delete_lease(&name).await;
        worlds[1].claim(lease(&name)).await;
        worlds[0].pass_term().await;
        operator.start_again().unwrap();
        operator.wait_ready().await;
        worlds[1].lease_in(&name, LeasePhase::Active).await;
        let objects = locals(&worlds).await;
        assert_eq!(objects.len(), 1, "{objects:#?}");
        assert_eq!(
            objects[0].namespace().as_deref(),
            Some(worlds[0].namespace.name()),
            "where it was intended"
        );
        for world in &worlds {
            world.settles().await;
        }
        // A lease on a row that was there before is granted without waiting for the object.
        assert!(is_operator_made(&worlds[0], uid(&objects[0])).await);
        worlds[0].delete_environment("local").await;
        worlds[0].environments_are_known_to_be_gone().await;
    }
}

#[tokio::test]
async fn where_a_namespace_would_not_have_the_object_its_claim_says_why_and_another_namespace_has_it() {
    let worlds = company(2).await;
    let proxy = worlds[0].proxy().await;
    let options = worlds[0].operator().kubeconfig(proxy.kubeconfig()).arg(scope(&worlds));
    let operator = options.start().unwrap();
    operator.wait_ready().await;
    let full = worlds[0].namespace.name().to_owned();
    let _refused = proxy.spoil(Fault::Answer(403), move |method, uri| {
        creates("environments")(method, uri) && uri.path().contains(&full)
    });
    worlds[0]
        .claim(lease("impatient").set("acquireTimeoutSeconds", 1))
        .await;
    let failed = worlds[0]
        .lease_because("impatient", LeasePhase::Failed, Reason::AcquireTimedOut)
        .await;
    let message = failed.status.unwrap().message.unwrap();
    assert!(
        message.contains("the company's Local can't be made in this namespace: spoiled by the test"),
        "{message}"
    );
    worlds[0].claim(lease("waiting")).await;
    let waiting = worlds[0]
        .lease_because("waiting", LeasePhase::Pending, Reason::EnvironmentNotActive)
        .await;
    let message = waiting.status.unwrap().message.unwrap();
    assert!(message.contains("spoiled by the test"), "{message}");

    worlds[1].granted(lease("elsewhere")).await;
    worlds[0].lease_in("waiting", LeasePhase::Active).await;
    worlds[1].environment_in("local", EnvironmentPhase::Active).await;
    assert_eq!(locals(&worlds).await.len(), 1);
    for world in &worlds {
        world.settles().await;
    }
}

#[tokio::test]
async fn an_intent_for_a_namespace_that_went_is_made_elsewhere() {
    let worlds = company(2).await;
    let proxy = worlds[0].proxy().await;
    let options = worlds[0].operator().kubeconfig(proxy.kubeconfig()).arg(scope(&worlds));
    let mut operator = options.start().unwrap();
    operator.wait_ready().await;
    let on_its_way = proxy.spoil(Fault::Withhold, creates("environments"));
    worlds[0].claim(lease("first")).await;
    on_its_way.wait_for_hits(1).await;
    operator.kill().unwrap();
    on_its_way.discard();
    worlds[0].namespace.delete(&worlds[0].client).await.unwrap();
    worlds[0].pass_term().await;
    operator.start_again().unwrap();
    operator.wait_ready().await;
    worlds[1].granted(lease("second")).await;
    let object = worlds[1].environment_in("local", EnvironmentPhase::Active).await;
    assert!(is_operator_made(&worlds[1], uid(&object)).await);
    worlds[1].settles().await;
}
