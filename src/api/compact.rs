//! Free objects as they are held in memory: as compact text, and only where they can be stored.
//!
//! A tree of JSON values takes up to a hundred times the memory of its text (`{"":0}` is six bytes and a map of 600). So a free
//! object is measured while it is read, and kept as text; what is too large, too deep or holds a NUL is passed over, and
//! only that it was so is kept. [`validate`](super::validate) says it to the user.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Number;

use super::FreeObject;

/// The most bytes of a free object, as compact JSON.
pub const FREE_OBJECT_BYTES: usize = 32 * 1024;

/// How deep a free object may be nested, itself included. Postgres and other readers of JSON give up on deeper ones.
pub const FREE_OBJECT_DEPTH: usize = 64;

/// A free JSON object: its text, or what is wrong with it.
#[derive(Clone, Debug)]
pub struct CompactObject(Held);

#[derive(Clone, Debug)]
enum Held {
    Text(Box<str>),
    Unfit(Unfit),
}

/// Why a free object is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It has so many bytes as compact JSON, more than [`FREE_OBJECT_BYTES`].
    Large(usize),
    /// It is nested deeper than [`FREE_OBJECT_DEPTH`] levels.
    Deep,
    /// It holds the character `\u0000`.
    Nul,
}

impl CompactObject {
    /// What is wrong with it, if it was not kept.
    pub const fn unfit(&self) -> Option<Unfit> {
        match self.0 {
            Held::Text(_) => None,
            Held::Unfit(unfit) => Some(unfit),
        }
    }

    /// The members. One that was not kept has none.
    pub fn members(&self) -> FreeObject {
        // The text was written by this module.
        serde_json::from_str(self.text()).unwrap_or_default()
    }

    /// Whether there is a member of this name.
    pub fn has(&self, name: &str) -> bool {
        let mut reader = serde_json::Deserializer::from_str(self.text());
        reader.deserialize_map(Names(name)).unwrap_or_default()
    }

    fn text(&self) -> &str {
        match &self.0 {
            Held::Text(text) => text,
            Held::Unfit(_) => "{}",
        }
    }
}

impl From<&FreeObject> for CompactObject {
    fn from(members: &FreeObject) -> Self {
        // A map whose keys are texts always encodes.
        Self(Held::Text(serde_json::to_string(members).unwrap_or_default().into()))
    }
}

impl PartialEq for CompactObject {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            // The same members may be written in another order.
            (Held::Text(one), Held::Text(two)) => one == two || self.members() == other.members(),
            (Held::Unfit(one), Held::Unfit(two)) => one == two,
            (Held::Text(_), Held::Unfit(_)) | (Held::Unfit(_), Held::Text(_)) => false,
        }
    }
}

impl Serialize for CompactObject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.members().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for CompactObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = CompactObject;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<CompactObject, A::Error> {
                let mut measured = Measured::default();
                let levels = FREE_OBJECT_DEPTH;
                Measure {
                    measured: &mut measured,
                    levels,
                    comma: false,
                }
                .visit_map(access)?;
                Ok(CompactObject(measured.held()))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl JsonSchema for CompactObject {
    fn inline_schema() -> bool {
        FreeObject::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        FreeObject::schema_name()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        FreeObject::json_schema(generator)
    }
}

/// Decodes a free object that may be absent and has to be fit: it was written by the operator itself.
pub(super) fn fit<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<CompactObject>, D::Error> {
    let object: Option<CompactObject> = Option::deserialize(deserializer)?;
    match object.as_ref().and_then(CompactObject::unfit) {
        Some(unfit) => Err(serde::de::Error::custom(format_args!("it is not kept: {unfit:?}"))),
        None => Ok(object),
    }
}

/// A text in the making: no more of it is held than may be kept.
#[derive(Default)]
struct Measured {
    text: String,
    bytes: usize,
    deep: bool,
    nul: bool,
}

impl Measured {
    fn write(&mut self, part: &str) {
        self.bytes = self.bytes.saturating_add(part.len());
        if self.bytes > FREE_OBJECT_BYTES {
            self.text = String::new();
        } else {
            self.text.push_str(part);
        }
    }

    fn write_text(&mut self, text: &str) {
        self.nul |= text.contains('\0');
        self.write(&serde_json::Value::from(text).to_string());
    }

    fn held(self) -> Held {
        if self.deep {
            Held::Unfit(Unfit::Deep)
        } else if self.nul {
            Held::Unfit(Unfit::Nul)
        } else if self.bytes > FREE_OBJECT_BYTES {
            Held::Unfit(Unfit::Large(self.bytes))
        } else {
            Held::Text(self.text.into())
        }
    }
}

/// Writes one value, of at most so many levels.
struct Measure<'a> {
    measured: &'a mut Measured,
    levels: usize,
    /// Another value stands before it.
    comma: bool,
}

impl Measure<'_> {
    fn inside(&mut self, comma: bool) -> Measure<'_> {
        Measure {
            measured: &mut *self.measured,
            levels: self.levels - 1, // asked only where there is a level left
            comma,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Measure<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.comma {
            self.measured.write(",");
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Measure<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.measured.write("null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.measured.write(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.measured.write(&value.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.measured.write(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        let number = Number::from_f64(value).map_or_else(|| "null".to_owned(), |number| number.to_string()); // JSON has no infinite number
        self.measured.write(&number);
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.measured.write_text(value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut access: A) -> Result<(), A::Error> {
        if self.levels == 0 {
            self.measured.deep = true;
            // Skipping needs no stack, however deep what is skipped.
            while access.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        self.measured.write("[");
        let mut comma = false;
        while access.next_element_seed(self.inside(comma))?.is_some() {
            comma = true;
        }
        self.measured.write("]");
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<(), A::Error> {
        if self.levels == 0 {
            self.measured.deep = true;
            while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        self.measured.write("{");
        let mut comma = false;
        while access.next_key_seed(self.inside(comma))?.is_some() {
            self.measured.write(":");
            access.next_value_seed(self.inside(false))?;
            comma = true;
        }
        self.measured.write("}");
        Ok(())
    }
}

/// Whether an object has a member of this name.
struct Names<'a>(&'a str);

impl<'de> Visitor<'de> for Names<'_> {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<bool, A::Error> {
        let mut found = false;
        while let Some((name, _)) = access.next_entry::<Cow<'_, str>, IgnoredAny>()? {
            found |= name == self.0;
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(text: &str) -> CompactObject {
        serde_json::from_str(text).unwrap()
    }

    fn nested(levels: usize) -> String {
        format!("{}{}", r#"{"a":"#.repeat(levels - 1) + "{", "}".repeat(levels))
    }

    #[test]
    fn what_can_be_stored_is_kept_as_it_is() {
        let value = json!({ "a": [1, -2, 18446744073709551615u64, 1.5, "x\"\n", null, true, { "b": [[{}], []] }] });
        let object = read(&value.to_string());
        assert_eq!(Value::Object(object.members()), value);
        assert_eq!(serde_json::to_value(&object).unwrap(), value);
        assert_eq!(object.text(), value.to_string());
        assert_eq!(object, CompactObject::from(value.as_object().unwrap()));
        assert!(object.has("a") && !object.has("b"));
    }

    #[test]
    fn the_same_members_are_equal_in_any_order_and_spelling() {
        assert_eq!(read(r#"{"a":1,"b":[2.50]}"#), read(r#"{ "b": [25e-1], "a": 1 }"#));
        assert_ne!(read(r#"{"a":1}"#), read(r#"{"a":2}"#));
    }

    #[test]
    fn an_object_of_any_depth_is_read_and_not_kept() {
        assert_eq!(read(&nested(FREE_OBJECT_DEPTH)).unfit(), None);
        for levels in [65, 66, 120, 9_990] {
            assert_eq!(read(&nested(levels)).unfit(), Some(Unfit::Deep), "{levels} levels");
        }
    }

    #[test]
    fn an_object_of_any_size_is_measured_and_not_kept() {
        let filled = |bytes: usize| json!({ "text": "x".repeat(bytes - r#"{"text":""}"#.len()) }).to_string();
        assert_eq!(read(&filled(FREE_OBJECT_BYTES)).unfit(), None);
        for bytes in [FREE_OBJECT_BYTES + 1, 1_400_000] {
            let object = read(&filled(bytes));
            assert_eq!(object.unfit(), Some(Unfit::Large(bytes)));
            assert_eq!(object.members(), FreeObject::new());
        }
        let many = format!(r#"{{"a":[{}]}}"#, vec![r#"{"":0}"#; 200_000].join(","));
        assert_eq!(read(&many).unfit(), Some(Unfit::Large(many.len())));
    }

    #[test]
    fn a_nul_is_seen_wherever_it_stands() {
        for text in [
            r#"{"a":"\u0000"}"#,
            r#"{"a":[{"b":["\u0000"]}]}"#,
            r#"{"\u0000":1}"#,
            r#"{"a":{"\u0000":1}}"#,
        ] {
            assert_eq!(read(text).unfit(), Some(Unfit::Nul), "{text}");
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for broken in ["{} {}", "{", r#"{"a":1e400}"#, "[]", "1", "null"] {
            assert!(serde_json::from_str::<CompactObject>(broken).is_err(), "{broken}");
        }
    }
}
