//! Permissions that the operator lacks: shown by readiness and by a log line, until they are granted again.
//!
//! Nothing is asked of the API server for this: every request that is made anyway shows whether one permission is there.

use super::error::ClusterError;
use crate::runtime::health::Health;

/// Takes note of answers; cheap to clone.
#[derive(Clone)]
pub struct Permissions {
    health: Health,
}

impl Permissions {
    /// Tells `health`.
    pub fn new(health: Health) -> Self {
        Self { health }
    }

    /// Takes note of how a request was answered that needs the right to do `verb` on `resource`. An answer that tells nothing
    /// of permissions (a timeout, a conflict) changes nothing.
    pub fn note<T>(&self, verb: &str, resource: &str, answer: &Result<T, ClusterError>) {
        match answer {
            Ok(_) => self.granted(verb, resource),
            Err(ClusterError::Forbidden(message)) => self.refused(verb, resource, message),
            Err(_) => {}
        }
    }

    /// The API server has let the operator do `verb` on `resource`.
    pub fn granted(&self, verb: &str, resource: &str) {
        let right = format!("{verb} {resource}");
        if self.health.has_right(&right) {
            tracing::info!(right, "a right is there again");
        }
    }

    /// The API server has refused to let the operator do `verb` on `resource`, in these words.
    pub fn refused(&self, verb: &str, resource: &str, message: &str) {
        let right = format!("{verb} {resource}");
        if counts(verb, resource, message) && self.health.lacks_right(&right, message) {
            tracing::error!(right, why = message, "a right is missing");
        }
    }
}

/// Whether a refusal keeps the operator from its work: the authorizer's, and any of a status, for what is not shown nobody can act
/// upon. All else that admission refuses with the same code is about one object: a quota, a policy, a Namespace that is going.
fn counts(verb: &str, resource: &str, message: &str) -> bool {
    let is_of_rights = message.contains(" is forbidden: User ") && message.contains(" cannot ");
    is_of_rights || (verb == "patch" && resource.ends_with("/status"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_by_admission_are_no_lack_of_rights() {
        let lacking = "leases.example \"x\" is forbidden: User \"system:serviceaccount:a:b\" cannot patch resource \"leases/status\"";
        assert!(counts("patch", "leases/status", lacking) && counts("get", "leases", lacking));
        for other in [
            "environments \"local\" is forbidden: exceeded quota: few, requested: 1, used: 1, limited: 1",
            "environments \"local\" is forbidden: unable to create new content in namespace x because it is being terminated",
            "leases \"x\" is forbidden: ValidatingAdmissionPolicy 'status' with binding 'status' denied request: no",
        ] {
            assert!(!counts("create", "environments", other), "{other}");
        }
    }

    #[test]
    fn a_refused_status_keeps_the_replica_from_being_ready_with_the_policy_s_sentence() {
        let health = Health::new(std::time::Duration::from_secs(60));
        let permissions = Permissions::new(health.clone());
        let message = "environmentleases.paperclip.ing \"x\" is forbidden: ValidatingAdmissionPolicy 'other-status' with binding \
                       'other-status' denied request: it takes the verb report";
        let told = |health: &Health| health.missing().into_iter().any(|line| line.contains(message));
        permissions.refused("delete", "environmentleases", message);
        assert!(!told(&health));
        permissions.refused("patch", "environmentleases/status", message);
        assert!(told(&health));
        permissions.granted("patch", "environmentleases/status");
        assert!(!told(&health));
    }
}
