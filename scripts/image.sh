#!/usr/bin/env bash
# Builds the container image from the release binary with whichever builder is installed.
# Usage: scripts/image.sh BINARY    (IMAGE=name:tag to name it)
set -euo pipefail
binary=$1
image=${IMAGE:-kube-vip:$("$binary" version | awk '/^Version:/ {print $2}')}
bundle=/etc/ssl/certs/ca-certificates.crt
builder=""
for candidate in buildah podman docker; do
  if command -v "$candidate" >/dev/null 2>&1; then builder=$candidate; break; fi
done
if [ -z "$builder" ]; then
  echo "image: no builder found; install one of buildah, podman, docker (for example: apt-get install buildah)" >&2
  exit 1
fi
if [ ! -f "$bundle" ]; then
  echo "image: $bundle is missing; install it with: apt-get install ca-certificates" >&2
  exit 1
fi
context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp "$binary" "$context/kube-vip"
cp "$bundle" "$context/"
cp Dockerfile "$context/"
"$builder" build -t "$image" "$context"
echo "image: built $image"
