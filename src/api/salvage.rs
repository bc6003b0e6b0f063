//! Reading a part of an object that another version may have written: what can be read is kept, the rest is reported.
//!
//! After a roll-back an older operator meets words that it does not know. One such word must cost the object no more than
//! itself, and other objects nothing: a list that fails as a whole would stop the kind for everyone.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{EnvironmentLeaseSpec, EnvironmentLeaseStatus, EnvironmentSpec, EnvironmentStatus, LeasePhase};

/// The most bytes of a part that are kept where it can't be read as a whole.
const KEPT_BYTES: usize = 48 * 1024;

/// The most bytes of a sentence that quotes what can't be read.
const FAULT_BYTES: usize = 512;

/// The most entries of a list that are looked at one by one.
const ENTRIES: usize = 64;

/// The fields of a part, each as its text.
type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// A part of an object: its spec or its status.
pub trait Part: DeserializeOwned {
    /// How messages call it.
    const NAME: &'static str;

    /// Fields that have to be there, with what stands for them where they can't be read. Nothing is decided upon such a
    /// stand-in: the part has a fault.
    const REQUIRED: &'static [(&'static str, &'static str)] = &[];

    /// The most bytes of the part that are read in one piece. What holds more is kept in part.
    const BYTES: usize = usize::MAX;

    /// Tells, of what could not be read, what must not be lost.
    fn amend(&mut self, _fields: &Fields<'_>) {}
}

/// What could be read of a part.
#[derive(Clone, Debug, PartialEq)]
pub struct Salvaged<T> {
    /// What could be read.
    pub value: Option<T>,
    /// What could not, as a sentence about the first field.
    pub fault: Option<String>,
}

impl Part for EnvironmentSpec {
    const NAME: &'static str = "spec";
    // The driver that touches the least: neither the company's Local nor a machine.
    const REQUIRED: &'static [(&'static str, &'static str)] = &[("driver", "\"Plugin\"")];
}

impl Part for EnvironmentLeaseSpec {
    const NAME: &'static str = "spec";
}

impl Part for EnvironmentStatus {
    const NAME: &'static str = "status";
    const BYTES: usize = KEPT_BYTES;
}

impl Part for EnvironmentLeaseStatus {
    const NAME: &'static str = "status";
    const BYTES: usize = KEPT_BYTES;

    /// An end in words that are not known is an end: such a claim is never tried again, such a lease never held again.
    fn amend(&mut self, fields: &Fields<'_>) {
        #[derive(Deserialize)]
        struct Said<'a> {
            #[serde(borrow, rename = "type")]
            type_: Cow<'a, str>,
            #[serde(borrow)]
            status: Cow<'a, str>,
        }
        let finished = |entry: &&RawValue| {
            let said = serde_json::from_str::<Said<'_>>(entry.get());
            said.is_ok_and(|said| said.type_ == "Finished" && said.status == "True")
        };
        let conditions = fields.get("conditions").map(|conditions| entries(conditions));
        let ended = self.released_at.is_some() || conditions.unwrap_or_default().iter().any(finished);
        if self.phase.is_none() && fields.contains_key("phase") && ended {
            self.phase = Some(LeasePhase::Failed);
        }
    }
}

/// Reads a part of an object: as a whole, or else field by field, and lists entry by entry.
pub fn salvage<T: Part>(text: &str) -> Salvaged<T> {
    if text.len() <= T::BYTES {
        match serde_json::from_str(text) {
            Ok(value) => return whole(Some(value)),
            Err(_) if text == "null" => return whole(None),
            Err(_) => {}
        }
    }
    let mut fault = None;
    let mut tell = |path: &str, why: &str| {
        fault.get_or_insert_with(|| cut(&format!("{path} can't be read: {why}"), FAULT_BYTES));
    };
    let fields: Fields<'_> = serde_json::from_str(text).unwrap_or_else(|error| {
        tell(T::NAME, &plain(&error));
        Fields::new()
    });
    // The small ones first: those that decisions depend on.
    let mut by_size: Vec<_> = fields.iter().collect();
    by_size.sort_by_key(|(_, value)| value.get().len());
    let mut left = KEPT_BYTES;
    let mut kept: BTreeMap<&str, Cow<'_, str>> = BTreeMap::new();
    for (name, value) in by_size {
        let path = format!("{}.{name}", T::NAME);
        let text = value.get();
        match reads::<T>(name, text) {
            Ok(()) if text.len() <= left => {
                left -= text.len();
                kept.insert(name, Cow::Borrowed(text));
            }
            Ok(()) => tell(&path, &format!("it has {} bytes, which is too much", text.len())),
            Err(why) => {
                tell(&path, &why);
                let list = readable_entries::<T>(name, value, &mut left);
                kept.extend(list.map(|list| (&**name, Cow::Owned(list))));
            }
        }
    }
    for (name, stand_in) in T::REQUIRED {
        if !kept.contains_key(name) {
            tell(&format!("{}.{name}", T::NAME), "it is missing");
            kept.insert(name, Cow::Borrowed(stand_in));
        }
    }
    let mut value: Option<T> = serde_json::from_str(&object(&kept)).ok();
    if let Some(value) = &mut value {
        value.amend(&fields);
    }
    Salvaged { value, fault }
}

/// Cuts a text to so many bytes, at the end of a character, with a sign that it was cut.
pub fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    let sign = "…";
    let end = text.floor_char_boundary(bytes.saturating_sub(sign.len()));
    format!("{}{sign}", &text[..end]) // at a character's boundary
}

fn whole<T>(value: Option<T>) -> Salvaged<T> {
    Salvaged { value, fault: None }
}

/// Whether a field can be read, beside nothing but what has to be there.
fn reads<T: Part>(name: &str, text: &str) -> Result<(), String> {
    let mut alone: BTreeMap<&str, Cow<'_, str>> = BTreeMap::new();
    alone.extend(
        T::REQUIRED
            .iter()
            .map(|(name, stand_in)| (*name, Cow::Borrowed(*stand_in))),
    );
    alone.insert(name, Cow::Borrowed(text));
    let read = serde_json::from_str::<T>(&object(&alone));
    read.map(drop).map_err(|error| plain(&error))
}

/// The entries of a list that can be read, as a list; none where it is no list.
fn readable_entries<T: Part>(name: &str, list: &RawValue, left: &mut usize) -> Option<String> {
    let mut kept = Vec::new();
    for entry in entries(list).into_iter().take(ENTRIES) {
        let text = entry.get();
        if text.len() <= *left && reads::<T>(name, &format!("[{text}]")).is_ok() {
            *left -= text.len();
            kept.push(text);
        }
    }
    (!kept.is_empty()).then(|| format!("[{}]", kept.join(",")))
}

fn entries(list: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(list.get()).unwrap_or_default()
}

fn object(fields: &BTreeMap<&str, Cow<'_, str>>) -> String {
    let member = |(name, text): (&&str, &Cow<'_, str>)| format!("{}:{text}", serde_json::Value::from(*name));
    format!("{{{}}}", fields.iter().map(member).collect::<Vec<_>>().join(","))
}

/// What an error says without the place, which is one in a text that nobody has seen.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    text[..end].to_owned() // what is found begins at a character
}
