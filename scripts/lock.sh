#!/usr/bin/env bash
# Writes requirements.lock anew from requirements.in, with the hashes of every file
# of each release. Versions already in the lock stay where they still fit; give
# --upgrade, or --upgrade-package NAME, to move them. Needs uv (pip install uv).
set -euo pipefail
cd "$(dirname "$0")/.."

# TensorFlow Federated 0.87.0 asks for jax and jaxlib 0.4.14, and jaxlib 0.4.14 can
# no longer be had. Its wheel is for glibc 2.31 and newer.
uv pip compile requirements.in "$@" \
  --override <(printf 'jax==0.4.18\njaxlib==0.4.18\n') \
  --python-version 3.11 \
  --python-platform x86_64-manylinux_2_31 \
  --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header \
  --output-file requirements.lock > /dev/null
