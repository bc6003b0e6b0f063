#!/usr/bin/env bash
# Prints the folder that holds prometheus and promtool. Where they are not installed, Debian's package is fetched once and
# unpacked into the user's cache: nothing is installed, no service is started, and no root is needed.
set -euo pipefail

if tool=$(command -v promtool) && command -v prometheus >/dev/null; then
  dirname "$tool"
  exit
fi

cache=${XDG_CACHE_HOME:-$HOME/.cache}/environment-operator/prometheus
if [ -e "$cache/bin/promtool" ]; then
  echo "$cache/bin"
  exit
fi

say() { echo "prometheus: $*" >&2; }

if ! command -v apt-get >/dev/null; then
  say "prometheus and promtool are missing, and this is no Debian: install them by hand."
  exit 1
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
if [ ! -e "$cache/bin/promtool" ]; then
  say "fetching Debian's package (20 MB)"
  unfinished=$cache/unfinished
  rm -rf "$unfinished"
  mkdir -p "$unfinished"
  cd "$unfinished"
  if [ "$(id -u)" = 0 ]; then
    apt-get --quiet --option DPkg::Lock::Timeout=600 update >&2
  fi
  # As root apt would fetch as another user, who may not write here.
  apt-get --quiet --option APT::Sandbox::User=root download prometheus >&2
  dpkg-deb --extract ./*.deb .
  rm -rf "$cache/bin"
  mv usr/bin "$cache/bin"
  cd "$cache"
  rm -rf "$unfinished"
fi
echo "$cache/bin"
