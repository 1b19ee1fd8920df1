#!/bin/bash
# The release binary must run from an empty root: nothing but itself, /dev and /proc. Starts it in such a root, in
# namespaces of its own, asks it for its health, its metrics and its status, stops it, and fails with what it said
# when any of that does not work.   usage: scripts/empty-root-check.sh [BINARY]
set -euo pipefail

binary=$(realpath "${1:-target/x86_64-unknown-linux-gnu/release/kube-vip}")
if [ -z "${EMPTY_ROOT:-}" ]; then
    as_root=$([ "$(id -u)" = 0 ] || echo --map-root-user)
    EMPTY_ROOT=$(mktemp -d)
    export EMPTY_ROOT
    trap 'rm -rf "$EMPTY_ROOT"' EXIT
    # shellcheck disable=SC2086 # empty means no argument
    unshare $as_root --net --mount --pid --fork --kill-child "$0" "$binary"
    exit
fi

fail() {
    echo "empty root: $1" >&2
    sed 's/^/  /' "$EMPTY_ROOT.log" >&2
    exit 1
}
# One request over bash's own /dev/tcp, so that nothing needs to be installed.
get() {
    exec 3<>"/dev/tcp/127.0.0.1/2112" || return 1
    printf 'GET %s HTTP/1.1\r\nHost: x\r\n\r\n' "$1" >&3
    cat <&3
    exec 3>&-
}

mount -t tmpfs tmpfs "$EMPTY_ROOT"
mkdir "$EMPTY_ROOT/dev" "$EMPTY_ROOT/proc"
cp "$binary" "$EMPTY_ROOT/kube-vip"
mount --rbind /dev "$EMPTY_ROOT/dev"
mount -t proc proc "$EMPTY_ROOT/proc"
mount -t proc proc /proc
ip link set lo up

vip_arp=true cp_enable=true address=192.0.2.1 vip_interface=lo port=6443 vip_nodename=n1 \
    cp_namespace=kube-system prometheus_server=:2112 \
    chroot "$EMPTY_ROOT" /kube-vip manager >"$EMPTY_ROOT.log" 2>&1 &
agent=$!
trap 'rm -f "$EMPTY_ROOT.log"' EXIT

for _ in $(seq 50); do
    (get /livez) >/dev/null 2>&1 && break # not there yet: refused
    kill -0 "$agent" 2>/dev/null || fail "the agent ended"
    sleep 0.1
done
[[ $(get /livez) == *$'\r\n\r\nOK' ]] || fail "/livez is not OK: $(get /livez)"
[[ $(get /metrics) == *'kube_vip_build_info{'* ]] || fail "/metrics has no build"
status=$(chroot "$EMPTY_ROOT" /kube-vip status) || fail "no status"
[[ $status == *192.0.2.1* ]] || fail "the status does not name the VIP: $status"
rss=$(awk '/VmRSS/ {print $2}' "/proc/$agent/status")
kill -TERM "$agent"
wait "$agent" || fail "exit code $? after SIGTERM"
echo "empty root: starts, answers, stops; $((rss / 1024)) MiB resident, $(($(stat -c %s "$binary") / 1048576)) MiB binary"
