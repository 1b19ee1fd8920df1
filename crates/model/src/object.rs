//! Namespace and name of an object of the store. Thousands of them are compared and handed on in every plan, so that one
//! is a single shared text: cheap to clone, compared in one go.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Namespace and name of an object of kind `K`; as text `namespace/name`. Ordered by namespace, then by name.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String", bound = "K: Clone")]
pub struct ObjectName<K> {
    text: Arc<str>,
    /// Where the namespace ends in `text`.
    slash: usize,
    kind: PhantomData<K>,
}

impl<K> ObjectName<K> {
    /// An object by namespace and name.
    pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        let (namespace, name) = (namespace.as_ref(), name.as_ref());
        let text = [namespace, "/", name].concat().into();
        Self { text, slash: namespace.len(), kind: PhantomData }
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        &self.text[..self.slash]
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.text[self.slash + 1..]
    }

    /// Namespace and name.
    pub fn parts(&self) -> (&str, &str) {
        (self.namespace(), self.name())
    }

    /// `namespace/name`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl<K: Eq> Ord for ObjectName<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        // Namespaces of one length are compared together with the names; of two lengths they are never equal.
        if self.slash == other.slash {
            // Who looks one up mostly has the very text that is in the map.
            if Arc::ptr_eq(&self.text, &other.text) { Ordering::Equal } else { self.text.cmp(&other.text) }
        } else {
            self.namespace().cmp(other.namespace())
        }
    }
}

impl<K: Eq> PartialOrd for ObjectName<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> fmt::Display for ObjectName<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> fmt::Debug for ObjectName<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<K> From<ObjectName<K>> for String {
    fn from(name: ObjectName<K>) -> Self {
        name.text.as_ref().to_owned()
    }
}

/// A text that is no `namespace/name`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form namespace/name")]
pub struct NotAnObjectName(pub String);

impl<K> TryFrom<String> for ObjectName<K> {
    type Error = NotAnObjectName;

    fn try_from(text: String) -> Result<Self, NotAnObjectName> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { slash: namespace.len(), text: text.into(), kind: PhantomData })
            }
            _ => Err(NotAnObjectName(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::ServiceName;

    #[test]
    fn names_are_ordered_by_namespace_and_then_by_name() {
        // As texts these would come in another order: a dash is less than a slash.
        let sorted = [("a", "x"), ("a-b", "a"), ("ab", "a"), ("ab", "b"), ("ab", "ba"), ("b", "")];
        for (at, (namespace, name)) in sorted.iter().enumerate() {
            for (other_at, (other_namespace, other_name)) in sorted.iter().enumerate() {
                let (one, other) =
                    (ServiceName::new(namespace, name), ServiceName::new(other_namespace, other_name));
                assert_eq!(one.cmp(&other), at.cmp(&other_at), "{one} {other}");
                assert_eq!(one == other, at == other_at, "{one} {other}");
            }
        }
    }

    #[test]
    fn a_name_is_text_with_one_slash_and_gives_back_its_parts() {
        let name = ServiceName::try_from("shop/web".to_owned()).unwrap();
        assert_eq!((name.namespace(), name.name(), name.as_str()), ("shop", "web", "shop/web"));
        assert_eq!(name, ServiceName::new("shop", "web"));
        for text in ["shop", "/web", "shop/", "a/b/c", ""] {
            assert_eq!(ServiceName::try_from(text.to_owned()), Err(NotAnObjectName(text.to_owned())));
        }
    }
}
