//! Environments as the watch of their kind has shown them.

use std::collections::HashSet;
use std::sync::Arc;

use uuid::Uuid;

use super::{Cache, Key, Lists, Wakes, Wants};
use crate::cache::object::EnvironmentObject;
use crate::lifecycle::ResourceVersion;

impl Cache {
    /// Takes an environment in that the watch has told of; whom this concerns.
    pub fn apply_environment(&mut self, environment: EnvironmentObject) -> Wakes {
        self.environments.heard(&environment.meta);
        self.take_environment(environment)
    }

    /// Takes an environment in that the API server has answered with; whom this concerns: nobody where the watch knows better.
    pub fn read_environment(&mut self, environment: EnvironmentObject) -> Wakes {
        if self.environments.is_past(&environment.meta) {
            return Wakes::none();
        }
        self.take_environment(environment)
    }

    fn take_environment(&mut self, environment: EnvironmentObject) -> Wakes {
        let uid = environment.meta.uid;
        let before = self.environments.get(uid).and_then(|known| row_of(known));
        let changed = self.environments.apply(environment);
        if changed.contains(&uid) {
            let objects = &self.environments;
            let row = objects.get(uid).or(objects.gone(uid)).and_then(|known| row_of(known));
            if before != row {
                self.leave_row(uid, before);
            }
            if let Some(row) = row {
                self.environments_by_row.entry(row).or_default().insert(uid);
            }
        }
        Wakes::of(changed.into_iter().map(Key::Environment))
    }

    fn leave_row(&mut self, uid: Uuid, row: Option<Uuid>) {
        if let Some(row) = row
            && let Some(objects) = self.environments_by_row.get_mut(&row)
        {
            objects.remove(&uid);
            if objects.is_empty() {
                self.environments_by_row.remove(&row);
            }
        }
    }

    /// Marks an environment as deleted; whom this concerns.
    pub fn delete_environment(&mut self, environment: EnvironmentObject) -> Wakes {
        let uid = environment.meta.uid;
        self.environments.heard(&environment.meta);
        let known = self.environments.get(uid).or(self.environments.gone(uid));
        let before = known.and_then(|known| row_of(known));
        if before != row_of(&environment) {
            self.leave_row(uid, before);
        }
        self.environments.delete(environment);
        Wakes::of([Key::Environment(uid)])
    }

    /// Takes a complete list of environments in; whom this concerns.
    pub fn reset_environments(
        &mut self,
        namespace: Option<&str>,
        environments: Vec<EnvironmentObject>,
        version: &ResourceVersion,
    ) -> Wakes {
        self.environments.listed(namespace, version);
        self.environment_lists
            .insert(namespace.map(str::to_owned), version.clone());
        let listed: HashSet<Uuid> = environments.iter().map(|environment| environment.meta.uid).collect();
        let mut wakes = Wakes {
            listed: listed.iter().copied().map(Key::Environment).collect(),
            ..Wakes::none()
        };
        for gone in self.environments.missing(namespace, &listed, version) {
            wakes = wakes.and(self.delete_environment(EnvironmentObject::clone(&gone)));
        }
        for environment in environments {
            wakes = wakes.and(self.take_environment(environment));
        }
        wakes
    }

    /// Forgets a deleted environment for which nothing is left to do.
    pub fn forget_environment(&mut self, uid: Uuid) {
        self.missed_deletions.remove(&Key::Environment(uid));
        let Some(gone) = self.environments.forget(uid) else {
            return;
        };
        self.leave_row(uid, row_of(&gone));
    }

    /// The same for environments.
    pub fn forget_gone_environments(&mut self, version: &ResourceVersion) {
        let missed_deletions = self.missed_deletions.iter().filter_map(|key| match key {
            Key::Environment(uid) => Some(*uid),
            Key::Lease(_) => None,
        });
        let gone: Vec<Uuid> = missed_deletions.chain(self.environments.gone_until(version)).collect();
        gone.into_iter()
            .for_each(|environment| self.forget_environment(environment));
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

    /// Environments of a company that are there, as far as its Namespaces are known.
    pub fn environments_of_company(&self, company: Uuid) -> impl Iterator<Item = &Arc<EnvironmentObject>> {
        let namespaces = self.namespaces_of_company.get(&company).into_iter().flatten();
        namespaces.flat_map(|namespace| self.environments.of_namespace(namespace))
    }

    /// For which environments a claim may be that stands for this row: those that an object of the row has the name of, and
    /// those of its company that name none.
    pub(super) fn wants_of_row(&self, row: Uuid, company: Uuid) -> Vec<Wants> {
        let objects = self.environments_of_row(row).into_iter().chain([row]);
        let objects = objects.filter_map(|uid| self.environments.get(uid));
        let mut wants: Vec<Wants> = objects.map(|object| Wants::named(&object.meta)).collect();
        wants.push(Wants::OfCompany(company));
        wants
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

/// The row that an object shows.
fn row_of(environment: &EnvironmentObject) -> Option<Uuid> {
    environment.status.as_ref()?.environment_id
}
