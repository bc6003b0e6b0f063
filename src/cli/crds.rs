//! `crds`: the definitions of both kinds, generated from their types.

/// What `kubectl apply -f -` takes.
pub(super) fn yaml() -> String {
    crate::api::crds_yaml()
}
