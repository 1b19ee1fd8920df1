//! Reading foreign objects: only what is used is kept, everything else is skipped while it is read, and what the API
//! leaves out or sends as `null` is empty.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// `null` as nothing.
pub(crate) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Which keys of a map are kept.
pub(crate) trait Keys {
    /// Whether this one is.
    fn keep(key: &str) -> bool;
}

/// A map of texts of which only some keys are read: annotations can be large, and most are not ours.
pub(crate) struct Texts<K>(pub(crate) BTreeMap<String, String>, PhantomData<K>);

impl<K> Default for Texts<K> {
    fn default() -> Self {
        Self(BTreeMap::new(), PhantomData)
    }
}

impl<'de, K: Keys> Deserialize<'de> for Texts<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader(PhantomData))
    }
}

struct Reader<K>(PhantomData<K>);

impl<'de, K: Keys> Visitor<'de> for Reader<K> {
    type Value = Texts<K>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of texts or null")
    }

    fn visit_unit<E>(self) -> Result<Texts<K>, E> {
        Ok(Texts::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Texts<K>, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if K::keep(&key) {
                texts.insert(key, map.next_value::<Option<String>>()?.unwrap_or_default());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Texts(texts, PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ours;

    impl Keys for Ours {
        fn keep(key: &str) -> bool {
            key.starts_with("a/")
        }
    }

    #[test]
    fn only_wanted_keys_are_read_and_the_values_of_others_do_not_matter() {
        let read = |text: &str| serde_json::from_str::<Texts<Ours>>(text).map(|texts| texts.0);
        let one = BTreeMap::from([("a/x".to_owned(), "1".to_owned())]);
        assert_eq!(read(r#"{"a/x": "1", "b": {"deep": [1]}}"#).unwrap(), one);
        assert_eq!(read("null").unwrap(), BTreeMap::new());
        assert!(read(r#"{"a/x": 1}"#).is_err());
    }
}
