//! Environments as the feed of their kind has shown them.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Index, Key, Lists};
use crate::controller::object::EnvironmentObject;
use crate::lifecycle::ResourceVersion;

impl Index {
    /// Takes an environment in; the keys that this concerns.
    pub fn apply_environment(&mut self, environment: EnvironmentObject) -> Vec<Key> {
        if let Some(row) = environment.status.as_ref().and_then(|status| status.environment_id) {
            self.environments_by_row
                .entry(row)
                .or_default()
                .insert(environment.meta.uid);
        }
        self.environments
            .apply(environment)
            .into_iter()
            .map(Key::Environment)
            .collect()
    }

    /// Marks an environment as deleted; the keys that this concerns.
    pub fn delete_environment(&mut self, environment: EnvironmentObject) -> Vec<Key> {
        let uid = environment.meta.uid;
        self.environments.delete(environment);
        vec![Key::Environment(uid)]
    }

    /// Takes a complete list of environments in; the keys that this concerns.
    pub fn reset_environments(
        &mut self,
        namespace: Option<&str>,
        environments: Vec<EnvironmentObject>,
        version: &ResourceVersion,
    ) -> Vec<Key> {
        self.environment_lists
            .insert(namespace.map(str::to_owned), version.clone());
        let listed: HashSet<Uuid> = environments.iter().map(|environment| environment.meta.uid).collect();
        let mut keys: Vec<Key> = listed.iter().copied().map(Key::Environment).collect();
        for gone in self.environments.missing(namespace, &listed, version) {
            keys.extend(self.delete_environment(EnvironmentObject::clone(&gone)));
        }
        for environment in environments {
            self.apply_environment(environment);
        }
        keys
    }

    /// Forgets a deleted environment for which nothing is left to do.
    pub fn forget_environment(&mut self, uid: Uuid) {
        self.tombstones.remove(&Key::Environment(uid));
        let Some(gone) = self.environments.forget(uid) else {
            return;
        };
        if let Some(row) = gone.status.as_ref().and_then(|status| status.environment_id)
            && let Some(objects) = self.environments_by_row.get_mut(&row)
        {
            objects.remove(&uid);
            if objects.is_empty() {
                self.environments_by_row.remove(&row);
            }
        }
    }

    /// The same for environments.
    pub fn forget_gone_environments(&mut self, version: &ResourceVersion) {
        for environment in self.environments.gone_until(version) {
            self.forget_environment(environment);
        }
    }

    /// The same for environments.
    pub fn known_environments(&self) -> (Lists, Vec<Uuid>) {
        (self.environment_lists.clone(), self.environments.known())
    }

    /// The Environment objects that show this row.
    pub fn environments_of_row(&self, row: Uuid) -> Vec<Uuid> {
        self.environments_by_row
            .get(&row)
            .into_iter()
            .flatten()
            .copied()
            .collect()
    }

    /// Whether nobody else of this process is making the Local that was intended with this nonce; from then on somebody is.
    pub fn begin_local(&mut self, nonce: Uuid) -> bool {
        self.locals_in_the_making.insert(nonce)
    }

    /// The API server has answered to who was making it.
    pub fn end_local(&mut self, nonce: Uuid) {
        self.locals_in_the_making.remove(&nonce);
    }
}
