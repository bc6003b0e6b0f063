//! Decoding JSON of any depth.
//!
//! The API server admits free objects nested 9,990 levels deep (seen), and a reader that gives up at 128 levels, as
//! `serde_json` does, cannot decode such an object nor any list that holds it: one user's object would blind the operator to
//! everyone's. So what is nested too deep is cut off while it is read; [`validate`](super::validate) still sees that it was
//! too deep and refuses the object.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{FREE_OBJECT_DEPTH, FreeObject};

/// Above the depth of a free object and what stands around it in a list, below the reader's own limit of 128.
const DOCUMENT_DEPTH: usize = FREE_OBJECT_DEPTH + 36;

/// A JSON document of any depth; a list or an object at its 100th level comes back empty.
///
/// Whoever reads objects that others write reads them as this, alone, as the items of a list or as the objects of a watch.
#[derive(Clone, Debug, PartialEq)]
pub struct Document(pub Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        AtMost(DOCUMENT_DEPTH).deserialize(deserializer).map(Self)
    }
}

/// Decodes a free object that may be absent, one level deeper than is allowed at most, so that the excess is seen.
pub(super) fn free_object<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FreeObject>, D::Error> {
    match AtMost(FREE_OBJECT_DEPTH + 1).deserialize(deserializer)? {
        Value::Object(object) => Ok(Some(object)),
        Value::Null => Ok(None),
        other => Err(serde::de::Error::custom(format_args!("{other} is not an object"))),
    }
}

/// A value of at most so many levels; the containers of the last level come back empty.
#[derive(Clone, Copy)]
struct AtMost(usize);

impl<'de> DeserializeSeed<'de> for AtMost {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AtMost {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number)) // JSON has no infinite number
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        if self.0 > 1 {
            while let Some(value) = access.next_element_seed(Self(self.0 - 1))? {
                values.push(value);
            }
        } else {
            // Skipping needs no stack, however deep what is skipped.
            while access.next_element::<IgnoredAny>()?.is_some() {}
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        if self.0 > 1 {
            while let Some(key) = access.next_key()? {
                members.insert(key, access.next_value_seed(Self(self.0 - 1))?);
            }
        } else {
            while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use kube::core::WatchEvent;
    use serde_json::json;

    use super::super::{EnvironmentLease, validate_lease};
    use super::*;

    fn lease_nested(levels: usize) -> String {
        let metadata = format!("{}{}", r#"{"a":"#.repeat(levels - 1) + "{", "}".repeat(levels));
        format!(
            r#"{{"apiVersion":"paperclip.ing/v1alpha1","kind":"EnvironmentLease","metadata":{{}},"spec":{{"metadata":{metadata}}}}}"#
        )
    }

    #[test]
    fn what_is_not_too_deep_is_kept_as_it_is() {
        let value = json!({ "a": [1, -2, 18446744073709551615u64, 1.5, "x", null, true, { "b": [[{}]] }] });
        assert_eq!(decode(&value.to_string()), value);
        let allowed: EnvironmentLease = serde_json::from_str(&lease_nested(64)).unwrap();
        assert_eq!(
            serde_json::to_value(&allowed.spec.metadata).unwrap(),
            decode(&lease_nested(64))["spec"]["metadata"]
        );
        assert_eq!(validate_lease(&allowed.spec), Ok(()));
    }

    #[test]
    fn an_object_of_any_depth_decodes_and_is_refused() {
        for levels in [65, 66, 120, 9_990] {
            let lease: EnvironmentLease = serde_json::from_str(&lease_nested(levels)).unwrap();
            assert!(validate_lease(&lease.spec).is_err(), "{levels} levels");
            let lease: EnvironmentLease = serde_json::from_value(decode(&lease_nested(levels))).unwrap();
            assert!(
                validate_lease(&lease.spec).is_err(),
                "{levels} levels by way of a value"
            );
        }
    }

    #[test]
    fn a_list_that_holds_a_deep_object_decodes() {
        #[derive(Deserialize)]
        struct Page {
            items: Vec<Document>,
        }
        let list = format!(
            r#"{{"apiVersion":"paperclip.ing/v1alpha1","kind":"EnvironmentLeaseList","metadata":{{}},"items":[{},{}]}}"#,
            lease_nested(9_990),
            lease_nested(2),
        );
        let page: Page = serde_json::from_str(&list).unwrap();
        assert_eq!(page.items[1].0, decode(&lease_nested(2)));
        let typed: kube::core::ObjectList<EnvironmentLease> = serde_json::from_str(&list).unwrap();
        assert_eq!(typed.items.len(), 2);
    }

    #[test]
    fn a_watch_that_shows_a_deep_object_decodes() {
        let event = format!(r#"{{"type":"ADDED","object":{}}}"#, lease_nested(9_990));
        let event: WatchEvent<Document> = serde_json::from_str(&event).unwrap();
        let WatchEvent::Added(Document(object)) = event else {
            panic!("{event:?}")
        };
        assert!(validate_lease(&serde_json::from_value::<EnvironmentLease>(object).unwrap().spec).is_err());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for broken in ["{} {}", "{", "1e400"] {
            assert!(serde_json::from_str::<Document>(broken).is_err(), "{broken}");
        }
    }

    fn decode(document: &str) -> Value {
        serde_json::from_str::<Document>(document).unwrap().0
    }
}
