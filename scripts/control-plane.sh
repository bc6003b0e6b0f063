#!/usr/bin/env bash
# Prints the folder that holds etcd, kube-apiserver, kube-controller-manager, kubectl and helm, and builds them first
# where they are not built yet from just these sources. One build at a time; what it does is told on standard error.
#
# The folder lies in the user's cache, so that a fresh clone finds what another one has built.
set -euo pipefail

source_folder=$(cd "$(dirname "$0")/../tests/control-plane" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/environment-operator/control-plane
key=$(cd "$source_folder" && cat main.go go.mod go.sum | sha256sum | cut -c 1-16)
folder=$cache/$key

if [ -e "$folder/bin/helm" ]; then
  echo "$folder/bin"
  exit
fi

say() { echo "control plane: $*" >&2; }

if ! command -v go >/dev/null; then
  say "Go is not installed; version $(sed -n 's/^go //p' "$source_folder/go.mod") or later builds the control plane."
  exit 1
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
if ! flock --nonblock 9; then
  say "another build is running, waiting for it"
  flock 9
fi
if [ -e "$folder/bin/helm" ]; then
  echo "$folder/bin"
  exit
fi

cd "$source_folder"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off
kubernetes=$(sed -n 's/^\tk8s.io\/kubernetes v//p' go.mod)
minor=${kubernetes#*.}
minor=${minor%%.*}
version=k8s.io/component-base/version
# kubectl and helm parse the version that is linked in here; without it they report one that neither can read.
link_flags="-s -w -X $version.gitVersion=v$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=$minor"

say "building Kubernetes $kubernetes once, into $folder (4 to 8 minutes on two cores, seconds where Go has it cached)"
say "fetching modules (about 0.8 GB the first time)"
go mod download
total=$(go list -deps . | wc -l)
say "compiling $total packages"
unfinished=$folder.unfinished
rm -rf "$unfinished"
mkdir -p "$unfinished/bin"
# -v names each package as it is compiled; those are counted, every other line is an error and is shown.
go build -v -trimpath -ldflags "$link_flags" -o "$unfinished/control-plane" . 2> >(
  awk -v total="$total" '
    / / || /^#/ { print; next }
    { if (++count % 100 == 0) printf "control plane: %d of %d packages compiled\n", count, total; fflush() }
  ' >&2
)
for name in etcd kube-apiserver kube-controller-manager kubectl helm; do
  ln -s ../control-plane "$unfinished/bin/$name"
done
rm -rf "$folder"
mv "$unfinished" "$folder"
say "built"
echo "$folder/bin"
