//! Whose company the objects of a Namespace are: decided once, by the label or the uid, and what becomes of them when the
//! label, the Namespace or the company changes afterwards.

use environment_operator::api::{COMPANY_LABEL, EnvironmentLease, EnvironmentPhase, LeasePhase, Reason};
use harness::wait::eventually;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::proxy::{Fault, watches};
use crate::support::{GRACE, LIMIT, TestEnvironment, id_of, lease, scope};

const ROW_DELETED: &str = "its row was deleted in the database";

fn ssh() -> Value {
    json!({
        "driver": "SSH",
        "ssh": { "host": "build.example", "username": "ci", "remoteWorkspacePath": "/srv/work" },
    })
}

fn message(lease: &EnvironmentLease) -> String {
    lease.status.clone().unwrap().message.unwrap()
}

fn company(lease: &EnvironmentLease) -> Uuid {
    lease.status.as_ref().unwrap().company_id.unwrap()
}

fn environment(lease: &EnvironmentLease) -> Uuid {
    lease.status.as_ref().unwrap().environment.as_ref().unwrap().id
}

#[tokio::test]
async fn two_namespaces_of_one_company_share_its_local_and_not_their_names() {
    let id = Uuid::new_v4();
    // However the label is written, it is the same company.
    let upper_case = id.to_string().to_uppercase();
    let one = TestEnvironment::with_labels("company-one", [(COMPANY_LABEL, &id.to_string())]).await;
    let labels = [(COMPANY_LABEL, upper_case.as_str())];
    let two = one.beside(one.control_plane(), "company-two", labels).await;
    let worlds = [one, two];
    let _operator = worlds[0].start_with(&[&scope(&worlds)]).await;
    let [one, two] = &worlds;
    // Both at once: neither is the first.
    let (first, second) = tokio::join!(one.granted(lease("first")), two.granted(lease("second")));
    assert_eq!((company(&first), company(&second)), (id, id));
    assert_eq!(environment(&first), environment(&second));
    one.ssh_environment("builder").await;
    two.claim(lease("by-name").environment("builder")).await;
    two.lease_because("by-name", LeasePhase::Pending, Reason::EnvironmentNotFound)
        .await;
    assert_eq!(one.companies().await, 1);
    assert_eq!(one.environment_rows(id).await.len(), 2);
}

#[tokio::test]
async fn a_label_joins_the_company_that_another_cluster_has_made() {
    let here = TestEnvironment::new("company-here").await;
    let id = here.company();
    let labels = [(COMPANY_LABEL, id.to_string())];
    let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
    let there = here.beside(here.control_plane(), "company-there", labels).await;
    // Each with a cluster id of its own.
    let _operator = here.start().await;
    let first = here.granted(lease("first")).await;
    let (made, local) = (here.company_row(id).await, here.environment_rows(id).await);
    let _other = there.start().await;
    let second = there.granted(lease("second")).await;
    assert_eq!((company(&first), company(&second)), (id, id));
    assert_eq!(environment(&first), environment(&second));
    assert_eq!(here.company_row(id).await, made, "it is as the first one has made it");
    assert_eq!(here.environment_rows(id).await, local);
    assert_eq!(here.companies().await, 1);
    for world in [&here, &there] {
        assert!(world.environments().get_opt("local").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_label_that_names_no_company_is_quoted_by_both_kinds_and_its_correction_lets_them_in() {
    let nil = Uuid::nil().to_string();
    let world = TestEnvironment::with_labels("company-label", [(COMPANY_LABEL, "acme")]).await;
    let _operator = world.start().await;
    world.environment("box", ssh()).await;
    world.claim(lease("claim").environment("box")).await;
    world.claim(lease("on-local")).await;
    for label in ["acme", nil.as_str(), ""] {
        world.label_company(Some(label)).await;
        let quoted = format!("\"{label}\"");
        for name in ["claim", "on-local"] {
            eventually("the claim quotes the label", LIMIT, async || {
                let said = world
                    .lease_because(name, LeasePhase::Pending, Reason::CompanyNotFound)
                    .await;
                let said = message(&said);
                if said.contains(&quoted) { Ok(()) } else { Err(said) }
            })
            .await;
        }
        eventually("the environment quotes the label", LIMIT, async || {
            let (_, said) = world.environment_not_ready("box", Reason::CompanyNotFound).await;
            if said.contains(&quoted) { Ok(()) } else { Err(said) }
        })
        .await;
    }
    assert!(world.environments().get_opt("local").await.unwrap().is_none());
    assert_eq!(world.companies().await, 0);

    let id = Uuid::new_v4();
    world.label_company(Some(&id.to_string())).await;
    for name in ["claim", "on-local"] {
        assert_eq!(company(&world.lease_in(name, LeasePhase::Active).await), id);
    }
    assert_eq!(world.companies().await, 1);
    world.settles().await;
}

#[tokio::test]
async fn a_label_that_changes_under_live_leases_moves_nothing_and_they_end_as_ever() {
    let id = Uuid::new_v4();
    let world = TestEnvironment::with_labels("company-changed", [(COMPANY_LABEL, &id.to_string())]).await;
    let _operator = world.start().await;
    let object = world.ssh_environment("box").await;
    let agent = world.insert_agent(id).await;
    let run = world.insert_run_of(id, agent, "running", json!({})).await;
    let held = world
        .granted(lease("by-run").environment("box").heartbeat_run(run))
        .await;
    world.granted(lease("by-release")).await;
    let deleted = world.granted(lease("by-deletion").environment("box")).await;
    let before = world.lease_rows(id).await;

    let other = Uuid::new_v4();
    let labels = [Some(other.to_string()), None, Some("acme".to_owned())];
    for (number, label) in labels.iter().enumerate() {
        world.label_company(label.as_deref()).await;
        let (late, on_local) = (format!("late-{number}"), format!("on-local-{number}"));
        world.environment(&late, ssh()).await;
        for claim in [lease(&late).environment("box"), lease(&on_local)] {
            world.claim(claim).await;
        }
        let (_, said) = world.environment_not_ready(&late, Reason::CompanyChanged).await;
        for name in [&late, &on_local] {
            let waiting = world
                .lease_because(name, LeasePhase::Pending, Reason::CompanyChanged)
                .await;
            assert_eq!(message(&waiting), said);
        }
    }
    assert_eq!(world.lease_rows(id).await, before, "nothing moves");
    assert_eq!(world.companies().await, 1);

    // What was there before goes on: an edit is written, the leases end.
    let patch = Patch::Merge(json!({ "spec": { "description": "edited" } }));
    world
        .environments()
        .patch("box", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let row = eventually("the edit is written", LIMIT, async || {
        let row = world.environment_row(object.uid().unwrap().parse().unwrap()).await;
        let row = row.unwrap();
        if row["description"] == "edited" {
            Ok(row)
        } else {
            Err(row)
        }
    });
    assert_eq!(row.await["company_id"], json!(id));
    world.set_run_status(&[run], "succeeded").await;
    world.release("by-release").await;
    world.delete_lease("by-deletion").await;
    world
        .lease_because("by-run", LeasePhase::Released, Reason::RunFinished)
        .await;
    world
        .lease_because("by-release", LeasePhase::Released, Reason::ReleaseRequested)
        .await;
    world.lease_row_is(id_of(&deleted), "released").await;
    assert_eq!(company(&world.leases().get("by-run").await.unwrap()), company(&held));

    // Changed back, it lets in what waited.
    world.label_company(Some(&id.to_string())).await;
    for number in 0..labels.len() {
        world
            .environment_in(&format!("late-{number}"), EnvironmentPhase::Active)
            .await;
        for name in [format!("late-{number}"), format!("on-local-{number}")] {
            assert_eq!(company(&world.lease_in(&name, LeasePhase::Active).await), id);
        }
    }
    world.settles().await;
}

#[tokio::test]
async fn a_namespace_that_is_made_again_is_decided_afresh() {
    let world = TestEnvironment::new("company-again").await;
    let mut operator = world.start().await;
    let labelled = Uuid::new_v4();
    let mut id = world.company();
    // With a label, without one, and the last time while no operator looks.
    for (label, is_watched) in [(Some(labelled.to_string()), true), (None, true), (None, false)] {
        let held = world.granted(lease("held")).await;
        assert_eq!(company(&held), id);
        if !is_watched {
            operator.stop(GRACE).await.unwrap();
        }
        let uid = world.make_namespace_again(label.as_deref()).await;
        if !is_watched {
            operator.start_again().unwrap();
            operator.wait_ready().await;
        }
        world.lease_row_is(id_of(&held), "released").await;
        assert_eq!(
            world.record(id_of(&held)).await.unwrap()["reason"],
            "LeaseDeleted",
            "whatever order its objects went in"
        );
        id = label.map_or(uid, |_| labelled);
    }
    assert_eq!(company(&world.granted(lease("held")).await), id);
    assert_eq!(world.companies().await, 4);
    world.settles().await;
}

#[tokio::test]
async fn a_namespace_that_was_made_again_unheard_of_is_not_taken_for_the_old_one() {
    let world = TestEnvironment::new("company-unheard").await;
    let proxy = world.proxy().await;
    // What becomes of Namespaces reaches the operator by its own reads alone.
    let deaf = proxy.spoil(Fault::Withhold, watches("namespaces"));
    let operator = world.operator().kubeconfig(proxy.kubeconfig()).start().unwrap();
    operator.wait_ready().await;
    deaf.wait_for_hits(1).await;
    let old = world.company();
    world.ssh_environment("box").await;
    world.granted(lease("held").environment("box")).await;
    let (leases, environments) = (
        world.lease_rows(old).await.len(),
        world.environment_rows(old).await.len(),
    );

    let stranger = Uuid::new_v4();
    world.make_namespace_again(Some(&stranger.to_string())).await;
    world.ssh_environment("box").await;
    for claim in [lease("again").environment("box"), lease("on-local")] {
        assert_eq!(company(&world.granted(claim).await), stranger);
    }
    assert_eq!(
        world.lease_rows(old).await.len(),
        leases,
        "nothing new is the old company's"
    );
    assert_eq!(world.environment_rows(old).await.len(), environments);
    drop(deaf);
}

#[tokio::test]
async fn a_company_that_the_origin_deletes_takes_its_leases_along_and_is_not_made_again() {
    let id = Uuid::new_v4();
    let world = TestEnvironment::with_labels("company-gone", [(COMPANY_LABEL, &id.to_string())]).await;
    let arguments = ["--sweep-interval=1s", "--resync-interval=1s"];
    let mut operator = world.start_with(&arguments).await;
    world.ssh_environment("box").await;
    let agent = world.insert_agent(id).await;
    let run = world.insert_run_of(id, agent, "running", json!({})).await;
    world
        .granted(lease("with-run").environment("box").heartbeat_run(run))
        .await;
    world.granted(lease("without-run")).await;
    world.claim(lease("waiting").environment("nowhere")).await;
    world
        .lease_because("waiting", LeasePhase::Pending, Reason::EnvironmentNotFound)
        .await;
    for name in ["box", "local"] {
        eventually("the environment counts its lease", LIMIT, async || {
            let object = world.environments().get(name).await.unwrap();
            match object.status.and_then(|status| status.active_leases) {
                Some(1) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    world.delete_company(id).await;
    assert_eq!(world.lease_rows(id).await, Vec::<Value>::new(), "gone by cascade");

    let gone = async || {
        for name in ["with-run", "without-run"] {
            let ended = world
                .lease_because(name, LeasePhase::Expired, Reason::EndedInDatabase)
                .await;
            assert_eq!(message(&ended), ROW_DELETED);
            assert_eq!(world.record(id_of(&ended)).await.unwrap()["ended_status"], "expired");
        }
        for name in ["box", "local"] {
            let (object, _) = world.environment_not_ready(name, Reason::CompanyNotFound).await;
            assert_eq!(object.status.unwrap().active_leases, Some(0), "{name}");
        }
        world
            .lease_because("waiting", LeasePhase::Pending, Reason::CompanyNotFound)
            .await;
    };
    gone().await;
    world.environment("late", ssh()).await;
    world.claim(lease("late-on-box").environment("box")).await;
    world.claim(lease("late-on-local")).await;
    let late = async || {
        world.environment_not_ready("late", Reason::CompanyNotFound).await;
        for name in ["late-on-box", "late-on-local"] {
            world
                .lease_because(name, LeasePhase::Pending, Reason::CompanyNotFound)
                .await;
        }
    };
    late().await;
    // Nor by an operator that has only just heard of it all.
    operator.stop(GRACE).await.unwrap();
    operator.start_again().unwrap();
    operator.wait_ready().await;
    world.environment("later", ssh()).await;
    world.environment_not_ready("later", Reason::CompanyNotFound).await;
    gone().await;
    late().await;
    assert_eq!(world.companies().await, 0);

    // Brought back by the Paperclip server, it is as good as before; what has ended stays so.
    world.insert_company(id).await;
    for name in ["box", "local", "late"] {
        world.environment_in(name, EnvironmentPhase::Active).await;
    }
    for name in ["late-on-box", "late-on-local"] {
        assert_eq!(company(&world.lease_in(name, LeasePhase::Active).await), id);
    }
    world
        .lease_because("with-run", LeasePhase::Expired, Reason::EndedInDatabase)
        .await;
    assert_eq!(world.lease_rows(id).await.len(), 2);
}

#[tokio::test]
async fn attached_a_company_is_the_origin_s_to_make_and_to_delete() {
    let world = TestEnvironment::attached("company-attached").await;
    let id = Uuid::new_v4();
    let label = id.to_string();
    let there = world
        .beside(
            world.control_plane(),
            "company-attached",
            [(COMPANY_LABEL, label.as_str())],
        )
        .await;
    let companies = world.companies().await;
    let _operator = there.start_with(&["--sweep-interval=1s", "--resync-interval=1s"]).await;
    there.environment("box", ssh()).await;
    let claims = ["on-box", "on-local"];
    there.claim(lease("on-box").environment("box")).await;
    there.claim(lease("on-local")).await;
    there.environment_not_ready("box", Reason::CompanyNotFound).await;
    for name in claims {
        let waiting = there
            .lease_because(name, LeasePhase::Pending, Reason::CompanyNotFound)
            .await;
        assert!(message(&waiting).contains(&label), "{}", message(&waiting));
    }
    assert!(
        there.environments().get_opt("local").await.unwrap().is_none(),
        "no Local without a company"
    );
    assert_eq!(world.companies().await, companies);

    there.insert_company(id).await;
    let made = there.company_row(id).await;
    for name in claims {
        assert_eq!(company(&there.lease_in(name, LeasePhase::Active).await), id);
    }
    there.environment_in("box", EnvironmentPhase::Active).await;
    assert_eq!(there.company_row(id).await, made, "it is left as it is");
    there.settles().await;

    there.delete_company(id).await;
    for name in claims {
        let ended = there
            .lease_because(name, LeasePhase::Expired, Reason::EndedInDatabase)
            .await;
        assert_eq!(message(&ended), ROW_DELETED);
    }
    for name in ["box", "local"] {
        there.environment_not_ready(name, Reason::CompanyNotFound).await;
    }
    there.claim(lease("late")).await;
    there
        .lease_because("late", LeasePhase::Pending, Reason::CompanyNotFound)
        .await;
    assert_eq!(world.companies().await, companies);
}
