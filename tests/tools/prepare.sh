#!/bin/sh
# Installs what building needs and this machine lacks, with "tests" what testing needs as well, and with "peers" what make
# test-peers needs besides: through apt as root, otherwise by printing the command to type. Go itself has to be there; from
# 1.21 on it fetches the version that go.mod asks for. (A missing PostgreSQL for "make run" is the program's own business:
# db/devpg.)
set -eu

case "${1:-}" in
peers) with_peers=1; set -- tests ;;
*) with_peers= ;;
esac

if ! command -v go >/dev/null 2>&1; then
  echo "prepare: Go is not installed; see https://go.dev/doc/install" >&2
  exit 1
fi

missing=""
want() { # want <program> <debian package>
  command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
want gcc gcc
want git git
[ "$(uname)" = Darwin ] || [ -e /usr/include/stdlib.h ] || missing="$missing libc6-dev"
postgres=$(ls -d /usr/lib/postgresql/1[5-9] /usr/lib/postgresql/[2-9]? 2>/dev/null | tail -n 1)
if [ "${1:-}" = tests ] && command -v apt-get >/dev/null 2>&1 && [ -z "${PG_CONFIG:-}" ]; then
  version=${postgres##*/}
  [ -n "$postgres" ] || version=$(. /etc/os-release; case "${VERSION_ID:-}" in 12) echo 15 ;; 13) echo 17 ;; 24.*) echo 16 ;; esac)
  if [ -n "$version" ]; then
    [ -x "/usr/lib/postgresql/$version/bin/initdb" ] || missing="$missing postgresql-$version"
    [ -e "/usr/share/postgresql/$version/extension/pgtap.control" ] || missing="$missing postgresql-$version-pgtap"
    [ -e "/usr/share/postgresql/$version/extension/plpgsql_check.control" ] || missing="$missing postgresql-$version-plpgsql-check"
  fi
fi

if [ "${1:-}" = tests ]; then # the official clients of Socket.IO, the client package, and a pooler
  want node nodejs
  want npm npm
  want python3 python3
  [ -x /usr/sbin/pgbouncer ] || want pgbouncer pgbouncer
  python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
fi

if [ "${1:-}" = tests ]; then # pages in a browser
  browser=${KIJKO_CHROMIUM:-}
  for name in chromium chromium-browser google-chrome chrome headless_shell; do
    command -v "$name" >/dev/null 2>&1 && browser=$name
  done
  # Ubuntu's package of that name only points to a snap; there the test says what to do.
  [ -n "$browser" ] || [ "$(. /etc/os-release 2>/dev/null; echo "${ID:-}")" = ubuntu ] || missing="$missing chromium"
fi

if [ -n "$with_peers" ]; then
  want mvn maven
  want xz xz-utils
  want unzip unzip
  want java default-jre-headless
fi

[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1; then
  echo "prepare: missing:$missing (Debian's names); install them with your system's package manager" >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "prepare: please type: sudo apt-get update && sudo apt-get install -y$missing" >&2
  exit 1
fi
echo "prepare: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q </dev/null
# shellcheck disable=SC2086 # a list of names
apt-get -o DPkg::Lock::Timeout=120 install -y -q --no-install-recommends $missing </dev/null
