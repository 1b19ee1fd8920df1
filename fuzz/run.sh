#!/bin/sh
# Builds all fuzz targets and runs each one for SECONDS (default 20), or only those that are named:
#
#     fuzz/run.sh [SECONDS [TARGET...]]
#
# Needs a C++ compiler (libFuzzer), no nightly. Found inputs stay in fuzz/corpus/TARGET; one that crashes is written to
# fuzz/corpus/TARGET.crash-… and ends the run with exit code 1. To replay it: fuzz/target/…/release/TARGET FILE.
set -eu
cd "$(dirname "$0")"
seconds=${1:-20}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- $(sed -n 's/^path = "targets\/\(.*\)\.rs"$/\1/p' Cargo.toml)

host=$(rustc -vV | sed -n 's/^host: //p')
# Coverage as cargo-fuzz asks for it, without its nightly-only sanitizer. `--target` keeps the flags away from build
# scripts and procedural macros.
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1" \
    cargo build --quiet --release --target "$host" --target-dir target

for name; do
    mkdir -p "corpus/$name"
    echo "fuzz: $name for $seconds s"
    log="corpus/$name.log"
    if ! "target/$host/release/$name" -max_total_time="$seconds" -max_len=512 -timeout=10 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="corpus/$name." "corpus/$name" 2>"$log"; then
        tail -n 40 "$log"
        exit 1
    fi
    sed -n 's/^stat::number_of_executed_units: */fuzz: inputs run: /p' "$log"
done
