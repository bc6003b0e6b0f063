//! In which order keys are taken: why each is reconciled, and whose it is.

use uuid::Uuid;

/// What a key is looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Something is held or gone, and may have come to its end.
    Ending,
    /// A claim, or an Environment that claims may wait for.
    Grant,
    /// Nothing is known to have changed.
    Resync,
}

/// Where a key waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lane {
    /// What it is looked at for.
    pub class: Class,
    /// Whose it is; nil where that is not known.
    pub company: Uuid,
}
