#!/usr/bin/env bash
# Debian packages that the tests and the demo need; with the word `peers`, what benches compare with, too. Installs them
# when that is possible without asking anybody, otherwise says which are missing and how to get them.
set -euo pipefail
missing=()
need() { # PROGRAM PACKAGE
  command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ] || missing+=("$2")
}
need ip iproute2
need nft nftables
need gcc gcc
need make make
need unshare util-linux
[ "${1:-}" != peers ] || need keepalived keepalived
[ ${#missing[@]} -eq 0 ] && exit 0
echo "packages needed: ${missing[*]}"
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
    { apt-get update >/dev/null && apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; }
  echo "installed: ${missing[*]}"
else
  echo "please install them, for example: sudo apt-get install ${missing[*]}" >&2
  exit 1
fi
