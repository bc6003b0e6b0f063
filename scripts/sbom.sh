#!/usr/bin/env bash
# Writes the bill of materials of the operator's binary: every crate in it, as CycloneDX (JSON).
#   sbom.sh FILE
set -euo pipefail
file=$(realpath --canonicalize-missing "$1")
cd "$(dirname "$0")/.."

# The tool writes beside the manifest of each member of the workspace, under a name that it is given; only the operator's is wanted.
name=.sbom-$$
trap 'rm -f "$name.json" "tests/harness/$name.json"' EXIT
target=$(rustc --version --verbose | sed -n 's/^host: //p')
# With a fixed time it also leaves out the random serial number: the same sources give the same bytes.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0} scripts/cargo-tool.sh cyclonedx --format json --spec-version 1.5 --target "$target" \
  --no-build-deps --override-filename "$name" --quiet
# Where the sources lie is none of their properties.
sed -i "s|path+file://$PWD#|path+file:///#|" "$name.json"
install -D --mode 0644 "$name.json" "$file"
