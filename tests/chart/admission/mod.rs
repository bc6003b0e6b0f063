//! The admission policies on a real API server, as users with all the rights that RBAC can give them.

mod companies;
mod leases;
mod status;
