#!/usr/bin/env bash
# Runs the tests layer by layer, and prints how many passed in each. The layers and the least number of tests in each stand
# in .ci/floor: fewer than that fails, so that no test gets lost unseen.
#   test.sh [LAYER...]    without arguments: all
set -euo pipefail
cd "$(dirname "$0")/.."

# What cargo test is called with. Always the whole workspace, so that dependencies are compiled with one set of features.
selection() {
  case $1 in
  pure) echo --lib --bins --test house ;;
  harness) echo --test parts ;;
  api | store | cluster | chart) echo --test "$1" ;;
  *)
    echo "test: .ci/floor names an unknown layer: $1" >&2
    exit 1
    ;;
  esac
}

# How many tests of a layer run at once. Those of the cluster wait for others' doings most of the time.
threads() {
  case $1 in
  cluster) echo $((2 * $(nproc))) ;;
  *) nproc ;;
  esac
}

logs=$(mktemp --directory)
trap 'rm -rf "$logs"' EXIT
# What the operators ask the API servers for: all of it is compared with the chart's rules in the end.
export TEST_AUDIT_LOGS=$logs/audit
mkdir "$TEST_AUDIT_LOGS"
cargo test --quiet --workspace --no-run

summary=
failed=
while read -r layer floor; do
  [ $# = 0 ] || [[ " $* " = *" $layer "* ]] || continue
  words=$(selection "$layer")
  echo "== $layer"
  started=$SECONDS
  verdict=passed
  # shellcheck disable=SC2086 # several words on purpose
  RUST_TEST_THREADS=$(threads "$layer") cargo test --workspace --no-fail-fast $words 2>&1 | tee "$logs/$layer" || verdict=FAILED
  count=$(awk '/^test result: / { sum += $4 } END { print sum + 0 }' "$logs/$layer")
  if [ "$verdict" = passed ] && [ "$count" -lt "$floor" ]; then
    verdict="TOO FEW (at least $floor are expected, see .ci/floor)"
  fi
  [ "$verdict" = passed ] || failed=yes
  summary+=$(printf '%-8s %5d tests %4d s  %s' "$layer" "$count" "$((SECONDS - started))" "$verdict")$'\n'
done < <(grep -v '^#' .ci/floor)

if [ $# = 0 ] && [ -z "$failed" ]; then
  echo "== rights that were used"
  verdict=passed
  cargo test --workspace --test chart -- --ignored --nocapture used:: || { verdict=FAILED failed=yes; }
  summary+="rights   used over all layers  $verdict"$'\n'
fi

echo "== tests per layer"
printf '%s' "$summary"
[ -z "$failed" ]
