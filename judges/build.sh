#!/bin/sh
# Builds the judges from their Go modules into build/judges/: the real kube-apiserver, the real etcd, and `elector`, a
# contender for a Lease that elects with client-go.
# Needs Go 1.24 or newer and a reachable module proxy; takes about five minutes on two cores and 3 GB of disk.
# The contract suite and the migration scenarios of the lab find them there (or in the folder that KUBEBUILDER_ASSETS names).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
out=${JUDGES_OUT:-$here/../build/judges}

if ! command -v go >/dev/null 2>&1; then
    echo "judges: Go is not installed. Install golang 1.24 or newer, or set KUBEBUILDER_ASSETS to a folder" >&2
    echo "        that holds kube-apiserver, etcd and elector." >&2
    exit 1
fi

mkdir -p "$out"
version=$(sed -n 's|^\tk8s.io/kubernetes \(v[0-9.]*\).*|\1|p' "$here/apiserver/go.mod" | head -n 1)
minor=$(echo "$version" | cut -d . -f 2)
stamp="-X k8s.io/component-base/version.gitVersion=$version
-X k8s.io/component-base/version.gitMajor=1
-X k8s.io/component-base/version.gitMinor=$minor"

build() {
    echo "judges: building $2"
    (cd "$here/$1" && CGO_ENABLED=0 nice -n 19 go build -mod=readonly -trimpath -p 2 -ldflags "-s -w $3" -o "$out/$2" .)
}

build elector elector ""
build etcd etcd ""
build apiserver kube-apiserver "$(echo "$stamp" | tr '\n' ' ')"
ls -l "$out"
