#!/usr/bin/env bash
# Prepares a machine for `make test` and `make demo`: installs Postgres's server programs, PgBouncer and libfaketime where they are
# missing (as root), builds the control plane where it is not built yet, and fetches Prometheus. What is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

for program in cargo go cc; do
  command -v "$program" >/dev/null || fail "$program is missing: install Rust, Go and a C compiler (Debian package gcc) first."
done

has_postgres() {
  compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || { command -v initdb && command -v postgres; } >/dev/null
}

# Tells a process another time than its neighbours': for the tests of deadlines.
has_faketime() {
  compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null
}

install() {
  DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes --option DPkg::Lock::Timeout=600 install --no-install-recommends "$@" >&2
}

prepare_install() { # WHAT PACKAGE
  [ "$(id -u)" = 0 ] || fail "$1 is missing: an administrator must install the Debian package $2."
  command -v apt-get >/dev/null || fail "$1 is missing, and this is no Debian: install it by hand."
  apt-get --quiet --option DPkg::Lock::Timeout=600 update >&2
}

if ! has_postgres; then
  prepare_install "Postgres's server" postgresql
  say "installing Postgres (its own cluster is not made, nothing of it is started)"
  install postgresql-common
  mkdir -p /etc/postgresql-common/createcluster.d
  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/no-main-cluster.conf
  install postgresql
  has_postgres || fail "the package postgresql is installed, but its programs are not where they should be."
fi

if [ ! -x /usr/sbin/pgbouncer ]; then
  prepare_install PgBouncer pgbouncer
  say "installing PgBouncer (its service is not started)"
  # The package would start it where there is somebody to start services.
  RUNLEVEL=1 install pgbouncer
  [ -x /usr/sbin/pgbouncer ] || fail "the package pgbouncer is installed, but its program is not where it should be."
fi

if ! has_faketime; then
  prepare_install libfaketime libfaketime
  say "installing libfaketime"
  install libfaketime
  has_faketime || fail "the package libfaketime is installed, but its library is not where it should be."
fi

if [ "$(id -u)" != 0 ] && ! unshare --user --map-root-user --mount true 2>/dev/null; then
  fail "unprivileged user namespaces are off: an administrator must allow them (sysctl kernel.unprivileged_userns_clone=1)."
fi
if [ "$(id -u)" = 0 ] && ! unshare --mount true 2>/dev/null; then
  fail "this machine lets root make no mount namespaces: in a container, an administrator must grant CAP_SYS_ADMIN."
fi

scripts/control-plane.sh >/dev/null
scripts/prometheus.sh >/dev/null
