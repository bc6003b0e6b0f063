//! Whose the Paperclip server's tables are.

/// Who owns the Paperclip server's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// The operator makes and migrates them.
    Standalone,
    /// The Paperclip server's server does; the operator alters none.
    Attached,
}
