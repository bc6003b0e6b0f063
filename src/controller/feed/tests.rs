//! Feeds against an API server that is played.
