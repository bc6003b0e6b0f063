//! Objects of one kind, by uid and by name, and those that are gone until what follows from it is done.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::cache::object::{Meta, Watched};
use crate::lifecycle::ResourceVersion;

/// Objects of one kind, by uid and by name.
///
/// A deletion is for good: what is gone never comes back, whatever an answer that is on its way says of it.
#[derive(Debug)]
pub struct Objects<T> {
    by_uid: HashMap<Uuid, Arc<T>>,
    /// By Namespace, then by name.
    by_name: HashMap<String, HashMap<String, Uuid>>,
    /// Deleted ones, until what follows from it is done.
    gone: HashMap<Uuid, Arc<T>>,
    /// How far the watch of a Namespace (none: of all) has come.
    heard: HashMap<Option<String>, ResourceVersion>,
}

impl<T> Default for Objects<T> {
    fn default() -> Self {
        Self {
            by_uid: HashMap::new(),
            by_name: HashMap::new(),
            gone: HashMap::new(),
            heard: HashMap::new(),
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
        let uid = self.by_name.get(namespace)?.get(name)?;
        self.by_uid.get(uid)
    }

    /// All objects of a Namespace that are there.
    pub fn of_namespace(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        let here = self.by_name.get(namespace).into_iter().flat_map(HashMap::values);
        here.filter_map(|uid| self.by_uid.get(uid))
    }

    /// The uids of all objects, those that are gone and not forgotten among them.
    pub(super) fn known(&self) -> Vec<Uuid> {
        self.by_uid.keys().chain(self.gone.keys()).copied().collect()
    }

    /// All objects that are there.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_uid.values()
    }

    /// The watch has listed a Namespace (none: all) at this version.
    pub(super) fn listed(&mut self, namespace: Option<&str>, version: &ResourceVersion) {
        let heard = self.heard.entry(namespace.map(str::to_owned));
        let heard = heard.or_insert_with(|| version.clone());
        if *heard < *version {
            *heard = version.clone();
        }
    }

    /// The watch has told of this version of an object.
    pub(super) fn heard(&mut self, meta: &Meta) {
        let own = Some(meta.namespace.clone());
        let scope = if self.heard.contains_key(&own) { own } else { None };
        if let Some(heard) = self
            .heard
            .get_mut(&scope)
            .filter(|heard| **heard < meta.resource_version)
        {
            *heard = meta.resource_version.clone();
        }
    }

    /// Whether the watch has come past this version of an object that is not known: it was there, and is gone.
    pub(super) fn is_past(&self, meta: &Meta) -> bool {
        let of_namespace = self.heard.get(&Some(meta.namespace.clone()));
        let heard = of_namespace.or_else(|| self.heard.get(&None));
        let known = self.by_uid.contains_key(&meta.uid) || self.gone.contains_key(&meta.uid);
        !known && heard.is_some_and(|heard| meta.resource_version <= *heard)
    }

    /// Takes an object in, and gives the uids of what has changed: none when it is not newer than what is known, two when
    /// it has replaced another of the same name.
    pub(super) fn apply(&mut self, object: T) -> Vec<Uuid> {
        let meta = object.meta();
        let uid = meta.uid;
        let older = |known: &Arc<T>| known.meta().resource_version >= meta.resource_version;
        if self.gone.contains_key(&uid) || self.by_uid.get(&uid).is_some_and(older) {
            return Vec::new();
        }
        let other = self.named(&meta.namespace, &meta.name).cloned();
        match other.filter(|other| other.meta().uid != uid) {
            // A newer object has the name already: this one was gone before that was made.
            Some(other) if older(&other) => {
                self.by_uid.remove(&uid);
                self.gone.insert(uid, Arc::new(object));
                vec![uid]
            }
            // Another uid under the same name: the older object is gone, though nobody told.
            Some(other) => {
                let replaced = other.meta().uid;
                self.by_uid.remove(&replaced);
                self.gone.insert(replaced, other);
                self.insert(object);
                vec![uid, replaced]
            }
            None => {
                self.insert(object);
                vec![uid]
            }
        }
    }

    fn insert(&mut self, object: T) {
        let meta = object.meta();
        let here = self.by_name.entry(meta.namespace.clone()).or_default();
        here.insert(meta.name.clone(), meta.uid);
        self.by_uid.insert(meta.uid, Arc::new(object));
    }

    pub(super) fn delete(&mut self, object: T) {
        let meta = object.meta();
        if let Some(here) = self.by_name.get_mut(&meta.namespace)
            && here.get(&meta.name) == Some(&meta.uid)
        {
            here.remove(&meta.name);
            if here.is_empty() {
                self.by_name.remove(&meta.namespace);
            }
        }
        self.by_uid.remove(&meta.uid);
        self.gone.insert(meta.uid, Arc::new(object));
    }

    /// Those of the scope that a complete list at `version` does not hold although they are no newer.
    pub(super) fn missing(
        &self,
        namespace: Option<&str>,
        listed: &HashSet<Uuid>,
        version: &ResourceVersion,
    ) -> Vec<Arc<T>> {
        let missing =
            |object: &&Arc<T>| !listed.contains(&object.meta().uid) && object.meta().resource_version <= *version;
        match namespace {
            Some(namespace) => self.of_namespace(namespace).filter(missing).cloned().collect(),
            None => self.iter().filter(missing).cloned().collect(),
        }
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

    /// How many are there, and how many are gone.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 2] {
        let named: usize = self.by_name.values().map(HashMap::len).sum();
        [self.by_uid.len() + named + self.by_name.len(), self.gone.len()]
    }
}
