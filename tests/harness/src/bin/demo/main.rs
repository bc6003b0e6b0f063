//! `make demo`: a story that shows environments and leases at work, on a real control plane and a real Postgres. The operator is
//! installed by its chart, and its Pods and those of the Jobs are processes of this machine.
//!
//! It ends by itself with 0 when everything happened as told, else with 1. With `--keep` it stays until Ctrl-C and says how
//! to play on.

mod stage;
mod story;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use stage::Stage;

/// What the command line says.
struct Arguments {
    operator: PathBuf,
    keep: bool,
}

impl Arguments {
    fn read() -> Result<Self> {
        let (mut operator, mut keep) = (None, false);
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--operator" => operator = arguments.next().map(PathBuf::from),
                "--keep" => keep = true,
                other => bail!("{other} is not known: demo --operator PATH [--keep]"),
            }
        }
        Ok(Self {
            operator: operator.context("say where the operator is: demo --operator PATH [--keep]")?,
            keep,
        })
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::read()?;
    let stage = Stage::set(&arguments.operator).await?;
    if let Err(error) = story::tell(&stage).await {
        eprintln!("\nThe operator's log:\n{}", stage.logs().await?);
        return Err(error);
    }
    if arguments.keep {
        stage.keep().await?;
    }
    Ok(())
}
