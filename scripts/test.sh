#!/usr/bin/env bash
# Every rung of the test ladder, cheapest first; each announces itself and its time. The first failure ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."
begin=$SECONDS
rung() { # TITLE COMMAND...
  local title=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$title"
  "$@"
  printf '== %s: %d s\n' "$title" $((SECONDS - start))
}

rung "0 formatting, lints, borders" make --no-print-directory check
rung "1-3 units, wires, plans, machines" cargo test --locked --workspace --exclude vip-lab --exclude vip-kernel --exclude vip-sim
rung "4 simulator: named seeds, mutations" cargo test --locked -p vip-sim --profile sim
rung "4 simulator: drawn worlds, half of them with Services" make --no-print-directory sim SEEDS="${SIM_SEEDS:-4000}"
rung "5 kernel contract" cargo test --locked -p vip-kernel
rung "release binary" make --no-print-directory build
export KUBE_VIP_BIN=$PWD/target/x86_64-unknown-linux-gnu/release/kube-vip
rung "release binary from an empty root" ./scripts/empty-root-check.sh "$KUBE_VIP_BIN"
rung "6 lab: bench, API contract, scenarios" cargo test --locked -p vip-lab -- --nocapture --test-threads=1
printf '\nall rungs passed in %d s\n' $((SECONDS - begin))
