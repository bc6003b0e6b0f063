//! Which company an object belongs to: its Namespace's, decided once (I9).

use uuid::Uuid;

use super::object::NamespaceObject;
use crate::api::{COMPANY_LABEL, Reason};
use crate::store::Settle;

/// The company that a Namespace names: by its label, else by its uid.
///
/// # Errors
/// A sentence about a label that is no uuid: it is never passed over.
pub fn named(namespace: &NamespaceObject) -> Result<Uuid, String> {
    let Some(label) = &namespace.company_label else {
        return Ok(namespace.meta.uid);
    };
    label.parse().map_err(|_| {
        format!(
            "label {COMPANY_LABEL} of namespace {} is \"{label}\", which is no uuid: write the company's id or remove it",
            namespace.meta.name
        )
    })
}

/// What stands of a Namespace's company, seen from one object in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Company {
    /// It is this one; `settle` where that has still to be recorded with the first row.
    Known(Uuid, Option<Settle>),
    /// It can't be told, or not any more.
    Doubt(Reason, String),
}

/// Judges a Namespace's company for an object that has no row yet.
pub fn of_new_object(namespace: &NamespaceObject, recorded: Option<Uuid>, exists: bool) -> Company {
    let name = &namespace.meta.name;
    match (recorded, named(namespace)) {
        (Some(recorded), Ok(named)) if recorded == named => {
            if exists {
                return Company::Known(recorded, None);
            }
            Company::Doubt(
                Reason::CompanyNotFound,
                format!("the company of namespace {name} is gone from the database"),
            )
        }
        (Some(_), _) => Company::Doubt(
            Reason::CompanyChanged,
            format!(
                "label {COMPANY_LABEL} of namespace {name} has changed since its first objects were made: change it back"
            ),
        ),
        (None, Ok(named)) => {
            let settle = Settle {
                namespace_uid: namespace.meta.uid,
                namespace: name.clone(),
            };
            Company::Known(named, Some(settle))
        }
        (None, Err(message)) => Company::Doubt(Reason::CompanyNotFound, message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::object::Watched;
    use super::*;

    fn namespace(label: Option<&str>) -> NamespaceObject {
        let labels = label.map_or_else(|| json!({}), |label| json!({ COMPANY_LABEL: label }));
        let metadata = json!({
            "name": "team", "uid": Uuid::from_u128(7), "resourceVersion": "5",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels,
        });
        NamespaceObject::decode("", "Namespace", json!({ "metadata": metadata })).unwrap()
    }

    #[test]
    fn the_label_names_the_company_and_the_uid_does_without_it() {
        let id = Uuid::from_u128(9);
        assert_eq!(named(&namespace(Some(&id.to_string()))), Ok(id));
        assert_eq!(named(&namespace(None)), Ok(Uuid::from_u128(7)));
    }

    #[test]
    fn a_malformed_label_is_quoted_and_never_passed_over() {
        let Company::Doubt(reason, message) = of_new_object(&namespace(Some("acme")), None, false) else {
            panic!()
        };
        assert_eq!(reason, Reason::CompanyNotFound);
        assert!(message.contains("\"acme\""), "{message}");
    }

    #[test]
    fn a_label_that_changes_after_the_first_row_moves_nothing_and_says_so() {
        let recorded = Some(Uuid::from_u128(9));
        for label in [None, Some("acme"), Some("00000000-0000-0000-0000-000000000008")] {
            let company = of_new_object(&namespace(label), recorded, true);
            assert!(
                matches!(company, Company::Doubt(Reason::CompanyChanged, _)),
                "{label:?}"
            );
        }
        let same = of_new_object(&namespace(Some("00000000-0000-0000-0000-000000000009")), recorded, true);
        assert_eq!(same, Company::Known(Uuid::from_u128(9), None));
    }
}
