//! What a claim may be for.

use uuid::Uuid;

use crate::cache::object::Meta;

/// Which environments a claim may be for, as far as its object tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wants {
    /// The one of this Namespace and name.
    Named(String, String),
    /// An agent's default, or the Local: any of this company.
    OfCompany(Uuid),
    /// Any of the company of this Namespace, which is not known yet.
    OfNamespace(String),
}

impl Wants {
    /// What a claim wants that names this object.
    pub(super) fn named(environment: &Meta) -> Self {
        Self::Named(environment.namespace.clone(), environment.name.clone())
    }
}
