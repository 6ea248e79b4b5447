#!/usr/bin/env bash
# Validates all manifests of this folder against the published schemas, offline: the
# package carries them. Needs Python 3 and, the first time, PyPI. usage: check.sh [VERSION]
set -euo pipefail
cd "$(dirname "$0")/../.."
version=${1:-1.31}
venv=target/kubernetes-validate
if [ ! -x "$venv/bin/kubernetes-validate" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q kubernetes-validate==1.36.0
fi
folder=deploy/kubernetes
files=()
for file in "$folder"/*.yaml; do
    # Read by kubectl itself, and not an object of the API.
    [ "$(basename "$file")" = kustomization.yaml ] || files+=("$file")
done
"$venv/bin/kubernetes-validate" --strict --version "$version" "${files[@]}"
# Everything in the list is there, and the other way round.
for file in "${files[@]}"; do grep -q -- "- $(basename "$file")\$" "$folder/kustomization.yaml"; done
echo "${#files[@]} manifests are valid for Kubernetes $version"
