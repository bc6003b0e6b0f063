//! Namespaces as their watch has shown them, and what is in them.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Cache, Key, Reference, Wakes};
use crate::cache::object::NamespaceObject;

impl Cache {
    /// Takes a Namespace in; whom this concerns: everything in it when its label or its end has come.
    pub fn apply_namespace(&mut self, namespace: NamespaceObject) -> Wakes {
        let known = self.namespaces.get(&namespace.meta.name);
        let same_uid = known.filter(|known| known.meta.uid == namespace.meta.uid);
        if same_uid.is_some_and(|known| known.meta.resource_version >= namespace.meta.resource_version) {
            return Wakes::none();
        }
        let said = |object: &NamespaceObject| (object.meta.uid, object.meta.deleting, object.company_label.clone());
        let changed = known.map(said) != Some(said(&namespace));
        let name = namespace.meta.name.clone();
        let before = self.company_of(&name);
        self.namespaces.insert(name.clone(), namespace);
        self.settle(&name, before);
        if changed {
            self.everything_in(&name)
        } else {
            Wakes::none()
        }
    }

    /// Marks a Namespace as deleted.
    pub fn delete_namespace(&mut self, namespace: &NamespaceObject) -> Wakes {
        let same = |known: &NamespaceObject| known.meta.uid == namespace.meta.uid;
        if self.namespaces.get(&namespace.meta.name).is_some_and(same) {
            self.remove_namespace(&namespace.meta.name);
        }
        self.everything_in(&namespace.meta.name)
    }

    /// Takes a complete list of Namespaces in (of all, or of one name); whom this concerns: everything in those that it does not
    /// hold any more, or shows otherwise.
    pub fn reset_namespaces(&mut self, name: Option<&str>, namespaces: Vec<NamespaceObject>) -> Wakes {
        let listed: HashSet<&str> = namespaces
            .iter()
            .map(|namespace| namespace.meta.name.as_str())
            .collect();
        let in_scope = |known: &&String| name.is_none_or(|name| name == known.as_str());
        let known = self.namespaces.keys().filter(in_scope);
        let gone: Vec<String> = known
            .filter(|known| !listed.contains(known.as_str()))
            .cloned()
            .collect();
        let mut wakes = Wakes::none();
        for gone in gone {
            self.remove_namespace(&gone);
            wakes = wakes.and(self.everything_in(&gone));
        }
        let applied = namespaces.into_iter().map(|namespace| self.apply_namespace(namespace));
        applied.fold(wakes, Wakes::and)
    }

    fn remove_namespace(&mut self, name: &str) {
        let before = self.company_of(name);
        self.namespaces.remove(name);
        self.settle(name, before);
    }

    /// The company of a Namespace may be another one than before, or known now.
    fn settle(&mut self, namespace: &str, before: Option<Uuid>) {
        let company = self.company_of(namespace);
        if before == company {
            return;
        }
        if let Some(before) = before
            && let Some(namespaces) = self.namespaces_of_company.get_mut(&before)
        {
            namespaces.remove(namespace);
            if namespaces.is_empty() {
                self.namespaces_of_company.remove(&before);
            }
        }
        if let Some(company) = company {
            let namespaces = self.namespaces_of_company.entry(company).or_default();
            namespaces.insert(namespace.to_owned());
        }
        self.refer_anew(namespace);
    }

    fn everything_in(&self, namespace: &str) -> Wakes {
        let leases = self.leases_of(&Reference::Namespace(namespace.to_owned()));
        let environments = self.environments.of_namespace(namespace);
        let environments = environments.map(|environment| Key::Environment(environment.meta.uid));
        Wakes::of(leases.into_iter().chain(environments))
    }
}
