//! What no database can hold is refused before it gets into a batch, with a sentence that says what to change.

use serde_json::Value;

use super::StoreError;
use crate::api::FreeObject;

/// Nesting of a free object at most.
const DEPTH: usize = 64;

/// Bytes of an indexed text at most: an index entry has to fit in a page, and nobody reads longer names.
const INDEXED: usize = 512;

/// Refuses a NUL in a text that is not indexed.
pub(crate) fn text(field: &str, text: Option<&str>) -> Result<(), StoreError> {
    match text {
        Some(text) if text.contains('\0') => refuse(format!("{field}: remove the NUL character (\\u0000)")),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a NUL in a text that is indexed, and one that is too long.
pub(crate) fn indexed_text(field: &str, value: Option<&str>) -> Result<(), StoreError> {
    text(field, value)?;
    match value {
        Some(text) if text.len() > INDEXED => refuse(format!(
            "{field}: shorten it to {INDEXED} bytes (it has {})",
            text.len()
        )),
        Some(_) | None => Ok(()),
    }
}

/// Refuses a NUL anywhere in a free object, and one that is nested too deeply.
pub(crate) fn object(field: &str, object: &FreeObject) -> Result<(), StoreError> {
    object.iter().try_for_each(|(key, value)| {
        text(field, Some(key))?;
        self::value(&format!("{field}.{key}"), value)
    })
}

/// Refuses a NUL anywhere in a value, and one that is nested too deeply.
pub(crate) fn value(field: &str, value: &Value) -> Result<(), StoreError> {
    let mut stack = vec![(value, 1)];
    while let Some((value, depth)) = stack.pop() {
        if depth > DEPTH {
            return refuse(format!("{field}: nest it at most {DEPTH} levels deep"));
        }
        match value {
            Value::String(string) => text(field, Some(string))?,
            Value::Array(values) => stack.extend(values.iter().map(|value| (value, depth + 1))),
            Value::Object(object) => {
                for (key, value) in object {
                    text(field, Some(key))?;
                    stack.push((value, depth + 1));
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    Ok(())
}

fn refuse(message: String) -> Result<(), StoreError> {
    Err(StoreError::Data { message })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sentence(outcome: Result<(), StoreError>) -> String {
        outcome.map_or_else(|error| error.to_string(), |()| "sound".to_owned())
    }

    #[test]
    fn a_nul_is_found_in_keys_and_values_at_any_depth() {
        let free = |value: Value| value.as_object().unwrap().clone();
        let expected = "spec.metadata.a: remove the NUL character (\\u0000)";
        assert_eq!(
            sentence(object("spec.metadata", &free(json!({"a": [{"b": "x\0"}]})))),
            expected
        );
        assert_eq!(
            sentence(object("spec.metadata", &free(json!({"a": {"x\0": 1}})))),
            expected
        );
        assert_eq!(
            sentence(object("spec.metadata", &free(json!({"a": [1, {"b": "x"}, null]})))),
            "sound"
        );
    }

    #[test]
    fn depth_and_length_have_their_limits() {
        let deep = (1..DEPTH).fold(json!(1), |value, _| json!([value]));
        assert_eq!(sentence(value("field", &deep)), "sound");
        assert_eq!(
            sentence(value("field", &json!([deep]))),
            "field: nest it at most 64 levels deep"
        );
        assert_eq!(sentence(indexed_text("field", Some(&"x".repeat(512)))), "sound");
        let long = "x".repeat(513);
        assert_eq!(
            sentence(indexed_text("field", Some(&long))),
            "field: shorten it to 512 bytes (it has 513)"
        );
    }
}
