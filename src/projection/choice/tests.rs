//! Which environment a claim comes to, by what the cache knows of others.

use serde_json::{Value, json};

use super::*;
use crate::api::COMPANY_LABEL;
use crate::cache::object::{LeaseObject, NamespaceObject, Watched};
use crate::projection::facts::tests::view;

fn decode<T: Watched>(name: &str, namespace: &str, uid: u128, mut object: Value) -> T {
    object["metadata"] = json!({
        "namespace": namespace, "name": name, "uid": Uuid::from_u128(uid), "resourceVersion": uid.to_string(),
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": object["labels"],
    });
    T::decode("", "", object).unwrap()
}

/// A claim in a Namespace of company 1, and in another Namespace that is labelled with it a Local that shows `status`.
fn local_of_another_namespace(status: Value) -> Option<Uuid> {
    let mut cache = Cache::default();
    let label = json!({ COMPANY_LABEL: Uuid::from_u128(1) });
    for (name, uid) in [("team", 2), ("other", 3)] {
        let _ = cache.apply_namespace(decode::<NamespaceObject>(name, "", uid, json!({ "labels": label })));
    }
    let local = json!({ "labels": {}, "spec": { "driver": "Local" }, "status": status });
    let _ = cache.apply_environment(decode(LOCAL_NAME, "other", 4, local));
    let lease: LeaseObject = decode("x", "team", 5, json!({ "labels": {}, "spec": {} }));
    let observed = ObservedLease {
        id: lease.meta.uid,
        object: Some(Arc::new(lease)),
        deleted: false,
        term: 0,
    };
    local_object(&cache, &observed, &view())
}

#[test]
fn a_local_that_shows_another_company_is_not_waited_for_whatever_its_namespace_is_labelled_now() {
    let of_company = |company: u128| json!({ "companyId": Uuid::from_u128(company), "phase": "Active" });
    assert_eq!(local_of_another_namespace(json!({})), Some(Uuid::from_u128(4)));
    assert_eq!(local_of_another_namespace(of_company(1)), Some(Uuid::from_u128(4)));
    assert_eq!(local_of_another_namespace(of_company(3)), None);
}
