//! The admission policies on a real API server, as users with all the rights that RBAC can give them.

mod companies;
mod environments;
mod leases;
mod metadata;
mod status;
