#!/usr/bin/env bash
# Lays out what the operator's image holds beside its base: the static binary, the licence, and the bill of materials, which names every
# crate in the binary with its licence. The Containerfile calls this, and `make image`, which tries what comes out.
#   image.sh FOLDER      made afresh
# The same sources give the same bytes, in whatever folder they lie.
set -euo pipefail
folder=$(realpath --canonicalize-missing "$1")
cd "$(dirname "$0")/.."

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-0}
target=$(rustc --version --verbose | sed -n 's/^host: //p')
target_folder=$(realpath --canonicalize-missing "${CARGO_TARGET_DIR:-target}")
# Static against glibc, so that the final stage needs no library. The target is named although it is the builder's own: else the
# flags would hold for procedural macros too, which the compiler has to load. No path of the builder's is left in the binary.
flags=(
  -C target-feature=+crt-static
  "--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
  "--remap-path-prefix=$PWD=."
  "--remap-path-prefix=$target_folder=target"
)
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f' "${flags[@]}")
export CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}
cargo build --locked --release --package environment-operator --bin environment-operator --target "$target"

rm -rf "$folder"
install -D --mode 0755 "$target_folder/$target/release/environment-operator" "$folder/environment-operator"
install -D --mode 0644 LICENSE "$folder/LICENSE"
scripts/sbom.sh "$folder/SBOM.cdx.json"
# A file's time is part of its layer.
find "$folder" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
