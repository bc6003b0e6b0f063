//! The harness tried on itself: whoever reads a red test of the operator has to know that the parts below it work.

mod control_plane;
mod guard;
mod node_agent;
mod operator;
mod pods;
mod postgres;
mod prometheus;
