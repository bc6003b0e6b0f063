#!/usr/bin/env bash
# Calls a subcommand of cargo that does not come with it, and installs it first where it is missing.
#   cargo-tool.sh deny|cyclonedx ARGUMENT...
set -euo pipefail
cd "$(dirname "$0")/.."

tool=$1
shift
# The versions are named, so that two builds of the image hold the same list.
case $tool in
deny) version=0.20.2 ;;
cyclonedx) version=0.5.9 ;;
*)
  echo "cargo-tool: unknown tool: $tool" >&2
  exit 2
  ;;
esac

if ! cargo "$tool" --version >/dev/null 2>&1; then
  echo "cargo-$tool is missing; installing it once with cargo (some minutes)" >&2
  # What the caller has set for the operator's own build is not for this one.
  env -u CARGO_ENCODED_RUSTFLAGS -u RUSTFLAGS -u CARGO_TARGET_DIR \
    cargo install --locked "cargo-$tool@$version" >&2
fi
exec cargo "$tool" "$@"
