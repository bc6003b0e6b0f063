//! Namespaces as their feed has shown them, and what is in them.

use std::collections::HashSet;

use super::{Index, Key, Reference};
use crate::controller::object::NamespaceObject;

impl Index {
    /// Takes a Namespace in; the keys that this concerns: everything in it when its label or its end has come.
    pub fn apply_namespace(&mut self, namespace: NamespaceObject) -> Vec<Key> {
        let known = self.namespaces.get(&namespace.meta.name);
        let same_uid = known.filter(|known| known.meta.uid == namespace.meta.uid);
        if same_uid.is_some_and(|known| known.meta.resource_version >= namespace.meta.resource_version) {
            return Vec::new();
        }
        let said = |object: &NamespaceObject| (object.meta.uid, object.meta.deleting, object.company_label.clone());
        let changed = known.map(said) != Some(said(&namespace));
        let name = namespace.meta.name.clone();
        self.namespaces.insert(name.clone(), namespace);
        if changed { self.keys_in(&name) } else { Vec::new() }
    }

    /// Marks a Namespace as deleted.
    pub fn delete_namespace(&mut self, namespace: &NamespaceObject) -> Vec<Key> {
        let same = |known: &NamespaceObject| known.meta.uid == namespace.meta.uid;
        if self.namespaces.get(&namespace.meta.name).is_some_and(same) {
            self.namespaces.remove(&namespace.meta.name);
        }
        self.keys_in(&namespace.meta.name)
    }

    /// Takes a complete list of Namespaces in (of all, or of one name).
    pub fn reset_namespaces(&mut self, name: Option<&str>, namespaces: Vec<NamespaceObject>) -> Vec<Key> {
        let listed: HashSet<&str> = namespaces
            .iter()
            .map(|namespace| namespace.meta.name.as_str())
            .collect();
        self.namespaces
            .retain(|known, _| name.is_some_and(|name| name != known) || listed.contains(known.as_str()));
        namespaces
            .into_iter()
            .flat_map(|namespace| self.apply_namespace(namespace))
            .collect()
    }

    fn keys_in(&self, namespace: &str) -> Vec<Key> {
        let mut keys = self.leases_of(&Reference::Namespace(namespace.to_owned()));
        let here = self
            .environments
            .iter()
            .filter(|environment| environment.meta.namespace == namespace);
        keys.extend(here.map(|environment| Key::Environment(environment.meta.uid)));
        keys
    }
}
