//! Whose company a Namespace is: a right of its own, whichever way the label is written.

use harness::control_plane::ControlPlane;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::installed::{User, installed, namespaces_rule, refused};

const LABEL: &str = "paperclip.ing/company-id";

/// A company that the user of the test may assign, and one that they may not.
const OWN: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const OTHER: &str = "bbbbbbbb-0000-4000-8000-000000000002";

/// A user who may do everything with Namespaces, and give them to the company [`OWN`].
async fn assigner(control_plane: &ControlPlane) -> Api<Namespace> {
    let mut rules = namespaces_rule();
    rules.as_array_mut().unwrap().push(json!({
        "apiGroups": ["paperclip.ing"],
        "resources": ["companies"],
        "resourceNames": [OWN],
        "verbs": ["assign"],
    }));
    let admin = control_plane.client().await.unwrap();
    Api::all(User::with_rule(control_plane, &admin, &rules).await.client)
}

/// A Namespace of a new name with a company, or without.
fn namespace(company: Option<&str>) -> Namespace {
    let labels = company.map(|company| [(LABEL.to_owned(), company.to_owned())].into());
    Namespace {
        metadata: ObjectMeta {
            name: Some(format!("company-{}", uuid::Uuid::new_v4().simple())),
            labels,
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// Sets or removes the label by each way that the API server has to write a Namespace; what each of them answers.
async fn write_label(
    client: &Client,
    name: &str,
    company: Option<&str>,
) -> Vec<(&'static str, kube::Result<Namespace>)> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let patch = Patch::Merge(json!({ "metadata": { "labels": { LABEL: company } } }));
    let write = PatchParams::default();
    let mut answers = vec![
        ("patch", namespaces.patch(name, &write, &patch).await),
        ("status", namespaces.patch_status(name, &write, &patch).await),
    ];
    let mut object = namespaces.get(name).await.unwrap();
    match company {
        Some(company) => object.labels_mut().insert(LABEL.into(), company.into()),
        None => object.labels_mut().remove(LABEL),
    };
    let post = PostParams::default();
    answers.push(("update", namespaces.replace(name, &post, &object).await));
    answers.push((
        "finalize",
        namespaces.replace_subresource("finalize", name, &post, &object).await,
    ));
    answers
}

#[tokio::test]
async fn a_namespace_is_made_for_a_company_only_by_who_may_assign_it() {
    let namespaces = assigner(installed().await).await;
    let post = PostParams::default();
    namespaces.create(&post, &namespace(None)).await.unwrap();
    namespaces.create(&post, &namespace(Some(OWN))).await.unwrap();
    for company in [OTHER, "", "not-a-uuid"] {
        let said = refused(namespaces.create(&post, &namespace(Some(company))).await).unwrap();
        let sentence = format!("needs the verb assign on companies.paperclip.ing/{company}");
        assert!(said.contains(&sentence), "{said}");
    }
}

#[tokio::test]
async fn a_namespace_s_company_is_changed_only_by_who_may_assign_both_whichever_way_it_is_written() {
    let control_plane = installed().await;
    let namespaces = assigner(control_plane).await;
    let client = namespaces.clone().into_client();
    let admin: Api<Namespace> = Api::all(control_plane.client().await.unwrap());
    let post = PostParams::default();
    let cases = [
        (None, Some(OTHER), "giving a Namespace to company"),
        (Some(OWN), Some(OTHER), "giving a Namespace to company"),
        (Some(OTHER), Some(OWN), "taking a Namespace from company"),
        (Some(OTHER), None, "taking a Namespace from company"),
    ];
    for (before, after, sentence) in cases {
        let name = admin.create(&post, &namespace(before)).await.unwrap().name_any();
        for (way, answer) in write_label(&client, &name, after).await {
            let said = refused(answer).unwrap_or_else(|error| panic!("{before:?} to {after:?} by {way}: {error}"));
            assert!(said.contains(sentence), "{way}: {said}");
        }
        let labels = admin.get(&name).await.unwrap().labels().clone();
        assert_eq!(labels.get(LABEL).map(String::as_str), before);
    }
}

#[tokio::test]
async fn who_may_assign_a_company_gives_and_takes_it_by_every_way() {
    let control_plane = installed().await;
    let namespaces = assigner(control_plane).await;
    let client = namespaces.clone().into_client();
    // Each way by itself does change the label: that is why each of them is matched.
    let written = async |way: usize, company: Option<&str>| {
        let made = namespaces
            .create(&PostParams::default(), &namespace(None))
            .await
            .unwrap();
        let name = made.name_any();
        if company.is_none() {
            let patch = Patch::Merge(json!({ "metadata": { "labels": { LABEL: OWN } } }));
            namespaces.patch(&name, &PatchParams::default(), &patch).await.unwrap();
        }
        let answers = write_label(&client, &name, company).await;
        let (way, answer) = answers.into_iter().nth(way).unwrap();
        let label = answer
            .unwrap_or_else(|error| panic!("{way}: {error}"))
            .labels()
            .get(LABEL)
            .cloned();
        assert_eq!(label.as_deref(), company, "{way}");
    };
    for way in 0..4 {
        written(way, Some(OWN)).await;
        written(way, None).await;
    }
}

#[tokio::test]
async fn everything_else_of_a_namespace_is_not_the_policy_s_business() {
    let control_plane = installed().await;
    let namespaces = assigner(control_plane).await;
    let admin: Api<Namespace> = Api::all(control_plane.client().await.unwrap());
    let name = admin
        .create(&PostParams::default(), &namespace(Some(OTHER)))
        .await
        .unwrap()
        .name_any();
    let patches: [Value; 2] = [
        json!({ "metadata": { "labels": { "team": "a" } } }),
        json!({ "metadata": { "annotations": { "note": "b" } } }),
    ];
    for patch in patches {
        namespaces
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_label_that_is_no_company_s_id_is_refused_when_it_is_set_whoever_sets_it() {
    let control_plane = installed().await;
    let namespaces: Api<Namespace> = Api::all(control_plane.client().await.unwrap());
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let (nil, max) = (uuid::Uuid::nil().to_string(), uuid::Uuid::max().to_string());
    let malformed = [
        "acme",
        "",
        "aaaaaaaa-0000-4000-8000-00000000000",
        "aaaaaaaa-0000-4000-80000-00000000001",
        "gaaaaaaa-0000-4000-8000-000000000001",
        &nil,
        &max.to_uppercase(),
    ];
    for company in malformed {
        let said = refused(namespaces.create(&dry_run, &namespace(Some(company))).await).unwrap();
        assert!(
            said.contains(&format!("is \"{company}\", which is no company's id")),
            "{said}"
        );
    }
    // However a uuid is written, the operator reads it.
    for company in [OWN, &OWN.to_uppercase(), &OWN.replace('-', "")] {
        company.parse::<uuid::Uuid>().unwrap();
        namespaces.create(&dry_run, &namespace(Some(company))).await.unwrap();
    }
}
