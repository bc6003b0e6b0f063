//! Who a container runs as, and what it may not do: the part of its security context that a process can have.
//!
//! User, groups, capabilities and privilege escalation are set by `setpriv`; seccomp and the rest are left to a kubelet. Where
//! the agent itself is not root there is only one user to be.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Container, PodSpec};

/// The words before a container's own that make its process another user's. Empty where nothing is asked for.
pub(super) fn prefix(container: &Container, pod: &PodSpec) -> Result<Vec<String>> {
    let own = container.security_context.clone().unwrap_or_default();
    let common = pod.security_context.clone().unwrap_or_default();
    let user = own.run_as_user.or(common.run_as_user);
    if own.run_as_non_root.or(common.run_as_non_root) == Some(true) {
        ensure!(
            user.is_some_and(|user| user != 0),
            "container has runAsNonRoot and image will run as root"
        );
    }
    let mut words = Vec::new();
    if nix::unistd::Uid::effective().is_root() {
        if let Some(user) = user {
            words.push(format!("--reuid={user}"));
        }
        let groups: Vec<String> = (common.fs_group.iter())
            .chain(common.supplemental_groups.iter().flatten())
            .map(i64::to_string)
            .collect();
        let group = own.run_as_group.or(common.run_as_group);
        if group.is_some() || !groups.is_empty() {
            words.push(format!("--regid={}", group.unwrap_or_default()));
            words.push(match groups.is_empty() {
                true => "--clear-groups".to_owned(),
                false => format!("--groups={}", groups.join(",")),
            });
        }
    }
    if own.allow_privilege_escalation == Some(false) {
        words.push("--no-new-privs".to_owned());
    }
    let dropped = own.capabilities.unwrap_or_default().drop.unwrap_or_default();
    if dropped.iter().any(|name| name == "ALL") {
        words.extend(["--inh-caps=-all", "--bounding-set=-all"].map(str::to_owned));
    }
    if !words.is_empty() {
        words.insert(0, "/usr/bin/setpriv".to_owned());
        words.push("--".to_owned());
    }
    Ok(words)
}
