//! Real parts for the tests and for the demo: a control plane, a Postgres, the operator, a node.
//!
//! Nothing here is part of the operator, and nothing here is a double: the API server, etcd, the controllers, Postgres and
//! the operator are the real programs, each a process of its own. What a test usually needs:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use harness::{control_plane::ControlPlane, namespace::Namespace, postgres::Postgres, wait::eventually};
//!
//! let cluster = ControlPlane::shared().await; // one for all tests of this process
//! let client = cluster.client().await?; // a client belongs to the runtime of its test
//! let namespace = Namespace::create(&client, "demo").await?; // a name of its own
//! let database = Postgres::shared().await.database().await?; // a database of its own, dropped with the value
//! # let _ = (namespace, database, eventually::<(), String>("x", std::time::Duration::ZERO, async || Ok(())));
//! # Ok(())
//! # }
//! ```
//!
//! All that a process starts ends with it, also when it is killed ([`guard`]), and everything that it writes lies in one
//! folder that goes with it ([`guard::run_directory`]). Two runs beside each other share nothing but the built binaries.
#![forbid(unsafe_code)]

pub mod control_plane;
pub mod guard;
pub mod helm;
pub mod http;
pub mod namespace;
pub mod node_agent;
pub mod objects;
pub mod operator;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod wait;
