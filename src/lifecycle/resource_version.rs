//! Which of two versions of an object is the newer one.

use std::cmp::Ordering;

/// A Kubernetes resourceVersion: a positive decimal number of any length, comparable within one kind of one cluster
/// (KEP-5504, "Comparable Resource Version").
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceVersion(String);

impl ResourceVersion {
    /// Reads `[1-9][0-9]*`; anything else is `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        (digits && !text.is_empty() && !text.starts_with('0')).then(|| Self(text.to_owned()))
    }

    /// The number as the API server writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ord for ResourceVersion {
    fn cmp(&self, other: &Self) -> Ordering {
        // A number without leading zeros is larger when it is longer, else when it is lexically larger.
        (self.0.len(), &self.0).cmp(&(other.0.len(), &other.0))
    }
}

impl PartialOrd for ResourceVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn versions_order_as_the_numbers_that_they_are(a in 1u64.., b in 1u64..) {
            let version = |number: u64| ResourceVersion::parse(&number.to_string()).unwrap();
            prop_assert_eq!(version(a).cmp(&version(b)), a.cmp(&b));
        }
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in ["", "0", "01", "-1", "1a", "a", " 1"] {
            assert_eq!(ResourceVersion::parse(text), None, "{text:?}");
        }
    }
}
