#!/usr/bin/env bash
# Calls cargo-deny, and installs it first where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-deny >/dev/null && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo-deny" ]; then
  echo "cargo-deny is missing; installing it once with cargo (some minutes)" >&2
  cargo install --locked cargo-deny >&2
fi
exec cargo deny "$@"
