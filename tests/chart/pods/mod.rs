//! Releases whose Pods run: the node agent starts the operator's binary as the chart's ServiceAccount, with its Pod-bound token,
//! its user and its probes, and nothing else.

mod commands;
mod failing;
mod hook;
mod life;
mod load;
mod release;
mod upgrade;
