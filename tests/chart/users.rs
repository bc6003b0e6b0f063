//! What each kind of user may do, by the table in `docs/security.md`.

use environment_operator::api::{COMPANY_LABEL, Environment};
use harness::namespace::Namespace;
use k8s_openapi::api::core::v1::{Namespace as NamespaceObject, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use crate::installed::{OPERATOR, User, installed, lease};
use crate::support::read;

/// The columns of the table, after its first.
const USERS: &[&str] = &[
    "viewer",
    "environment editor",
    "editor",
    "admin",
    "runner",
    "stranger",
    "operator",
];

/// The rows of the table: what is done, and for whom there is a yes.
fn documented() -> Vec<(String, Vec<bool>)> {
    let document = read("docs/security.md");
    let (_, rest) = document.split_once("\n## What users may do\n").unwrap();
    let mut rows = rest
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'));
    let cells = |line: &str| -> Vec<String> {
        let inside = line.trim_matches('|');
        inside.split('|').map(|cell| cell.trim().replace('`', "")).collect()
    };
    assert_eq!(cells(rows.next().unwrap())[1..], *USERS);
    rows.skip(1)
        .map(|line| {
            let cells = cells(line);
            (cells[0].clone(), cells[1..].iter().map(|cell| cell == "yes").collect())
        })
        .collect()
}

/// Whether the user may do it; nothing is kept.
async fn may(user: &User, namespace: &str, action: &str) -> bool {
    let (leases, environments) = (user.leases(namespace), user.environments(namespace));
    let post = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let write = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    let delete = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    let patch = |value| Patch::Merge(value);
    let status = json!({ "status": { "phase": "Pending" } });
    let renew = json!({ "metadata": { "annotations": { "paperclip.ing/renew-time": "2" } } });
    let answer = match action {
        "read environments" => environments.list(&ListParams::default()).await.map(drop),
        "make an environment" => environments.create(&post, &environment("other")).await.map(drop),
        "change an environment" => {
            let change = patch(json!({ "spec": { "description": "changed" } }));
            environments.patch("box", &write, &change).await.map(drop)
        }
        "delete an environment" => environments.delete("box", &delete).await.map(drop),
        "delete an environment that leases hold" => environments.delete("busy", &delete).await.map(drop),
        "read leases" => leases.list(&ListParams::default()).await.map(drop),
        "take a lease" => leases.create(&post, &lease("other")).await.map(drop),
        "release a lease" => leases
            .patch("held", &write, &patch(json!({ "spec": { "release": true } })))
            .await
            .map(drop),
        "renew a lease" => leases.patch("held", &write, &patch(renew)).await.map(drop),
        "change a lease in any other way" => leases
            .patch("held", &write, &patch(json!({ "spec": { "ttlSeconds": 9 } })))
            .await
            .map(drop),
        "delete a lease" => leases.delete("held", &delete).await.map(drop),
        "delete all leases at once" => leases
            .delete_collection(&delete, &ListParams::default())
            .await
            .map(drop),
        "write an environment's status" => environments.patch_status("box", &write, &patch(status)).await.map(drop),
        "write a lease's status" => leases.patch_status("held", &write, &patch(status)).await.map(drop),
        "change the company of the namespace" => {
            let namespaces: Api<NamespaceObject> = Api::all(user.client.clone());
            let label = json!({ "metadata": { "labels": { COMPANY_LABEL: uuid::Uuid::new_v4() } } });
            namespaces.patch(namespace, &write, &patch(label)).await.map(drop)
        }
        "read the namespace's Secrets" => {
            let secrets: Api<Secret> = Api::namespaced(user.client.clone(), namespace);
            secrets.list(&ListParams::default()).await.map(drop)
        }
        other => panic!("the table has a row that is not tried: {other}"),
    };
    match answer {
        Ok(()) => true,
        Err(kube::Error::Api(refusal)) if refusal.code == 403 => false,
        Err(error) => panic!("{action}: {error}"),
    }
}

fn environment(name: &str) -> Environment {
    let ssh = json!({ "host": "box.example", "username": "agent", "remoteWorkspacePath": "/work" });
    let spec = json!({ "driver": "SSH", "ssh": ssh });
    Environment::new(name, serde_json::from_value(spec).unwrap())
}

#[tokio::test]
async fn each_user_may_do_exactly_what_the_documentation_says() {
    let control_plane = installed().await;
    let client = control_plane.client().await.unwrap();
    let namespace = Namespace::create(&client, "users").await.unwrap();
    let name = namespace.name();
    let admin = User { client };
    let post = PostParams::default();
    admin
        .environments(name)
        .create(&post, &environment("box"))
        .await
        .unwrap();
    admin
        .environments(name)
        .create(&post, &environment("busy"))
        .await
        .unwrap();
    let operator = User::named(control_plane, OPERATOR).await;
    let holds = Patch::Merge(json!({ "status": { "activeLeases": 1 } }));
    let as_operator = operator.environments(name);
    let shown = as_operator.patch_status("busy", &PatchParams::default(), &holds).await;
    shown.unwrap();
    admin.leases(name).create(&post, &lease("held")).await.unwrap();
    let bound = async |role: &str| User::bound(control_plane, &admin.client, name, role).await;
    let users = [
        bound("view").await,
        bound("demo-environment-operator-environment-editor").await,
        bound("edit").await,
        bound("admin").await,
        bound("demo-environment-operator-runner").await,
        User::stranger(control_plane).await,
        operator,
    ];
    let documented = documented();
    assert!(documented.len() >= 15, "{documented:?}");
    for (action, answers) in documented {
        for ((user, kind), expected) in users.iter().zip(USERS).zip(answers) {
            assert_eq!(may(user, name, &action).await, expected, "{kind}: {action}");
        }
    }
}
