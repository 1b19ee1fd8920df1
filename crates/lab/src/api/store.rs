//! The memory of the server: every object by kind, namespace and name, one resource version for all of them, and the
//! history of changes that watches and consistent lists read. Verbs change it under one lock; watches wait on its
//! version. Compaction forgets history, never objects.

use super::kind::Kind;
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The version of an empty store. High, so that the low versions that a test makes up are always ancient.
const FIRST_VERSION: u64 = 1000;

/// Changes that are kept before the oldest are compacted; about a hundred times what the scenarios write.
const HISTORY_LIMIT: usize = 50_000;

/// Where an object lives.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    group: &'static str,
    resource: &'static str,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl Key {
    /// The key of an object; `namespace` is empty for cluster-scoped kinds.
    pub fn new(kind: &'static Kind, namespace: &str, name: &str) -> Self {
        let (group, resource) = (kind.group, kind.resource);
        Self { group, resource, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    pub(crate) fn is_of(&self, kind: &Kind) -> bool {
        self.group == kind.group && self.resource == kind.resource
    }
}

/// One change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// The resource version that the change made.
    pub version: u64,
    /// The object's place.
    pub key: Key,
    /// The object before; absent when it was created.
    pub before: Option<Arc<Value>>,
    /// The object after; absent when it was deleted.
    pub after: Option<Arc<Value>>,
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct Memory {
    version: u64,
    compacted: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    names_made: u64,
}

/// The store; shared by every endpoint.
#[derive(Debug)]
pub struct Store {
    memory: Mutex<Memory>,
    version: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self::new()
    }
}

impl Store {
    /// An empty store.
    pub fn new() -> Self {
        let memory = Memory {
            version: FIRST_VERSION,
            compacted: FIRST_VERSION,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            names_made: 0,
        };
        Self { memory: Mutex::new(memory), version: watch::Sender::new(FIRST_VERSION) }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        // A panic of a test's closure must not take every other endpoint down with it.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads under the lock.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        look(&self.lock())
    }

    /// Changes under the lock, then wakes the watches.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.lock();
        let done = change(&mut memory);
        let version = memory.version;
        drop(memory);
        self.version.send_if_modified(|seen| std::mem::replace(seen, version) != version);
        done
    }

    /// Wakes when the version moves.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The current resource version.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// Forgets all history: a watch or a continued list from before now answers 410, reason Expired.
    pub fn compact(&self) {
        let mut memory = self.lock();
        memory.compacted = memory.version;
        memory.history.clear();
    }

    /// An object as it is now.
    pub fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().get(&Key::new(kind, namespace, name))
    }

    /// All objects of a kind, in all namespaces, ordered by namespace and name.
    pub fn list(&self, kind: &'static Kind) -> Vec<Arc<Value>> {
        self.lock().of_kind(kind).map(|(_, object)| Arc::clone(object)).collect()
    }

    /// Every change that is still remembered, oldest first. For checkers.
    pub fn history(&self) -> Vec<Change> {
        self.lock().history.iter().cloned().collect()
    }
}

impl Memory {
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// History begins after this version.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.get(key).cloned()
    }

    pub(crate) fn of_kind(&self, kind: &'static Kind) -> impl Iterator<Item = (&Key, &Arc<Value>)> {
        self.objects.range(Key::new(kind, "", "")..).take_while(|(key, _)| key.is_of(kind))
    }

    /// The objects of a kind as they were at a version that history still covers.
    pub(crate) fn of_kind_at(&self, kind: &'static Kind, version: u64) -> BTreeMap<Key, Arc<Value>> {
        let mut objects: BTreeMap<Key, Arc<Value>> =
            self.of_kind(kind).map(|(key, object)| (key.clone(), Arc::clone(object))).collect();
        for change in self.history.iter().rev().take_while(|change| change.version > version) {
            if !change.key.is_of(kind) {
                continue;
            }
            match &change.before {
                Some(before) => objects.insert(change.key.clone(), Arc::clone(before)),
                None => objects.remove(&change.key),
            };
        }
        objects
    }

    /// The changes of a kind after a version.
    pub(crate) fn changes_after(&self, kind: &'static Kind, version: u64) -> impl Iterator<Item = &Change> {
        let from = self.history.partition_point(|change| change.version <= version);
        self.history.range(from..).filter(move |change| change.key.is_of(kind))
    }

    /// Puts an object in its place with a new resource version and gives it back as stored.
    pub(crate) fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        self.version += 1;
        object["metadata"]["resourceVersion"] = Value::String(self.version.to_string());
        let object = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&object));
        self.remember(Change { version: self.version, key, before, after: Some(Arc::clone(&object)) });
        object
    }

    /// Takes an object away. A deletion is a change with a version of its own.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let before = self.objects.remove(key)?;
        self.version += 1;
        self.remember(Change {
            version: self.version,
            key: key.clone(),
            before: Some(Arc::clone(&before)),
            after: None,
        });
        Some(before)
    }

    /// A number that was not given before, for generated names.
    pub(crate) fn number(&mut self) -> u64 {
        self.names_made += 1;
        self.names_made
    }

    fn remember(&mut self, change: Change) {
        self.history.push_back(change);
        if self.history.len() > HISTORY_LIMIT
            && let Some(oldest) = self.history.pop_front()
        {
            self.compacted = oldest.version;
        }
    }
}
