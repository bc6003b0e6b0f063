//! Which company an object belongs to: its Namespace's, decided once (I9).

use uuid::Uuid;

use crate::api::{COMPANY_LABEL, Reason};
use crate::cache::object::NamespaceObject;
use crate::store::{Mode, NamespaceBinding};

/// What stands of a Namespace's company, seen from one object in it.
#[derive(Clone, Debug, PartialEq)]
pub enum Company {
    /// It is this one; `binding` where that has still to be recorded with the first row.
    Known(Uuid, Option<NamespaceBinding>),
    /// It can't be told, or not any more.
    Doubt(Reason, String),
}

/// Judges a Namespace's company for an object that has no row yet. `exists`: the company has its row.
///
/// Standalone a company's row is made with the first row of its first Namespace, and never again for a Namespace that had
/// it; attached it is the Paperclip server that makes companies.
pub fn of_new_object(namespace: &NamespaceObject, recorded: Option<Uuid>, exists: bool, mode: Mode) -> Company {
    let name = &namespace.meta.name;
    match (recorded, namespace.company()) {
        (Some(recorded), Ok(named)) if recorded == named => {
            if exists {
                return Company::Known(recorded, None);
            }
            Company::Doubt(
                Reason::CompanyNotFound,
                format!("the company of namespace {name} is gone from the database"),
            )
        }
        (None, Ok(named)) if !exists && mode == Mode::Attached => Company::Doubt(
            Reason::CompanyNotFound,
            format!("company {named}, which namespace {name} belongs to, does not exist (yet) in the database"),
        ),
        (Some(_), _) => Company::Doubt(
            Reason::CompanyChanged,
            format!(
                "label {COMPANY_LABEL} of namespace {name} has changed since its first objects were made: change it back"
            ),
        ),
        (None, Ok(named)) => {
            let binding = NamespaceBinding {
                namespace_uid: namespace.meta.uid,
                namespace: name.clone(),
            };
            Company::Known(named, Some(binding))
        }
        (None, Err(message)) => Company::Doubt(Reason::CompanyNotFound, message),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cache::object::Watched;

    fn namespace(label: Option<&str>) -> NamespaceObject {
        let labels = label.map_or_else(|| json!({}), |label| json!({ COMPANY_LABEL: label }));
        let metadata = json!({
            "name": "team", "uid": Uuid::from_u128(7), "resourceVersion": "5",
            "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels,
        });
        NamespaceObject::decode("", "Namespace", json!({ "metadata": metadata })).unwrap()
    }

    fn judged(label: Option<&str>, recorded: Option<Uuid>, exists: bool) -> Company {
        of_new_object(&namespace(label), recorded, exists, Mode::Standalone)
    }

    fn doubted(company: Company) -> (Reason, String) {
        match company {
            Company::Doubt(reason, message) => (reason, message),
            Company::Known(id, _) => panic!("{id} is known"),
        }
    }

    #[test]
    fn the_label_names_the_company_and_the_uid_does_without_it() {
        let id = Uuid::from_u128(9);
        assert_eq!(namespace(Some(&id.to_string())).company(), Ok(id));
        assert_eq!(namespace(None).company(), Ok(Uuid::from_u128(7)));
    }

    #[test]
    fn one_company_has_one_id_however_it_is_written() {
        let id = Uuid::from_u128(0xabcd);
        // The last two can't stand in a label; were they to, they would mean the same.
        let upper_case = id.to_string().to_uppercase();
        let (simple, braced, urn) = (id.simple().to_string(), id.braced().to_string(), id.urn().to_string());
        for label in [&upper_case, &simple, &braced, &urn] {
            assert_eq!(namespace(Some(label)).company(), Ok(id), "{label}");
            let recorded = judged(Some(label), Some(id), true);
            assert_eq!(recorded, Company::Known(id, None), "it has not changed: {label}");
        }
    }

    #[test]
    fn a_label_that_is_no_id_is_quoted_and_never_passed_over() {
        let nil = Uuid::nil().to_string();
        let max = Uuid::max().simple().to_string();
        for label in ["acme", "", "0000-9", &nil, &max] {
            let (reason, message) = doubted(judged(Some(label), None, true));
            assert_eq!(reason, Reason::CompanyNotFound);
            assert!(message.contains(&format!("\"{label}\"")), "{message}");
        }
    }

    #[test]
    fn a_label_that_changes_after_the_first_row_moves_nothing_and_says_so() {
        let recorded = Some(Uuid::from_u128(9));
        for label in [None, Some("acme"), Some("00000000-0000-0000-0000-000000000008")] {
            let (reason, _) = doubted(judged(label, recorded, true));
            assert_eq!(reason, Reason::CompanyChanged, "{label:?}");
        }
        let same = judged(Some("00000000-0000-0000-0000-000000000009"), recorded, true);
        assert_eq!(same, Company::Known(Uuid::from_u128(9), None));
    }

    #[test]
    fn only_standalone_and_only_a_namespace_s_first_row_make_a_company() {
        let team = Uuid::from_u128(7);
        for mode in [Mode::Standalone, Mode::Attached] {
            let namespace = namespace(None);
            let (reason, _) = doubted(of_new_object(&namespace, Some(team), false, mode));
            assert_eq!(reason, Reason::CompanyNotFound, "it had one, which is gone");
            let binding = Some(NamespaceBinding {
                namespace_uid: team,
                namespace: "team".to_owned(),
            });
            let there = of_new_object(&namespace, None, true, mode);
            assert_eq!(there, Company::Known(team, binding.clone()));
            match of_new_object(&namespace, None, false, mode) {
                Company::Known(id, made) => assert_eq!((mode, id, made), (Mode::Standalone, team, binding)),
                Company::Doubt(reason, _) => assert_eq!((mode, reason), (Mode::Attached, Reason::CompanyNotFound)),
            }
        }
    }
}
