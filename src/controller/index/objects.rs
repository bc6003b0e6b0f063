//! Objects of one kind, by uid and by name, and those that are gone until what follows from it is done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::controller::object::Watched;
use crate::lifecycle::ResourceVersion;

/// Objects of one kind, by uid and by name.
#[derive(Debug)]
pub struct Objects<T> {
    by_uid: HashMap<Uuid, Arc<T>>,
    by_name: HashMap<(String, String), Uuid>,
    /// Deleted ones, until what follows from it is done.
    gone: HashMap<Uuid, Arc<T>>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self {
            by_uid: HashMap::new(),
            by_name: HashMap::new(),
            gone: HashMap::new(),
        }
    }
}

impl<T: Watched> Objects<T> {
    /// The object with this uid, if it is there.
    pub fn get(&self, uid: Uuid) -> Option<&Arc<T>> {
        self.by_uid.get(&uid)
    }

    /// The deleted object with this uid, until it is forgotten.
    pub fn gone(&self, uid: Uuid) -> Option<&Arc<T>> {
        self.gone.get(&uid)
    }

    /// The object of this name.
    pub fn named(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        let uid = self.by_name.get(&(namespace.to_owned(), name.to_owned()))?;
        self.by_uid.get(uid)
    }

    /// The uids of all objects, those that are gone and not forgotten among them.
    pub(super) fn known(&self) -> Vec<Uuid> {
        self.by_uid.keys().chain(self.gone.keys()).copied().collect()
    }

    /// All objects that are there.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_uid.values()
    }

    /// Takes an object in, and gives the uids of what has changed: none when it is not newer than what is known, two when
    /// it has replaced another of the same name.
    pub(super) fn apply(&mut self, object: T) -> Vec<Uuid> {
        let meta = object.meta();
        let (uid, name) = (meta.uid, (meta.namespace.clone(), meta.name.clone()));
        let known = self.by_uid.get(&uid).or(self.gone.get(&uid));
        if known.is_some_and(|known| known.meta().resource_version >= meta.resource_version) {
            return Vec::new();
        }
        let mut changed = vec![uid];
        // Another uid under the same name: the older object is gone, though nobody told.
        if let Some(replaced) = self.by_name.insert(name, uid).filter(|old| *old != uid)
            && let Some(object) = self.by_uid.remove(&replaced)
        {
            self.gone.insert(replaced, object);
            changed.push(replaced);
        }
        self.by_uid.insert(uid, Arc::new(object));
        changed
    }

    pub(super) fn delete(&mut self, object: T) {
        let meta = object.meta();
        let (uid, name) = (meta.uid, (meta.namespace.clone(), meta.name.clone()));
        if self.by_name.get(&name) == Some(&uid) {
            self.by_name.remove(&name);
        }
        self.by_uid.remove(&uid);
        self.gone.insert(uid, Arc::new(object));
    }

    /// Those of the scope that a complete list at `version` does not hold although they are no newer.
    pub(super) fn missing(
        &self,
        namespace: Option<&str>,
        listed: &HashSet<Uuid>,
        version: &ResourceVersion,
    ) -> Vec<Arc<T>> {
        let in_scope = |object: &&Arc<T>| namespace.is_none_or(|namespace| object.meta().namespace == namespace);
        let missing =
            |object: &&Arc<T>| !listed.contains(&object.meta().uid) && object.meta().resource_version <= *version;
        self.by_uid.values().filter(in_scope).filter(missing).cloned().collect()
    }

    /// The deleted objects whose last state is no newer than `version`.
    pub(super) fn gone_until(&self, version: &ResourceVersion) -> Vec<Uuid> {
        let gone = self
            .gone
            .iter()
            .filter(|(_, object)| object.meta().resource_version <= *version);
        gone.map(|(uid, _)| *uid).collect()
    }

    /// Forgets a deleted object.
    pub(super) fn forget(&mut self, uid: Uuid) -> Option<Arc<T>> {
        self.gone.remove(&uid)
    }
}
