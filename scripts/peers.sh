#!/usr/bin/env bash
# Makes the environments of the frameworks that benchmarks/ compares with: .peers/fedjax
# and .peers/torch (PyTorch, pfl, Flower, fluke). Nothing of them gets into .venv. Does
# nothing where they hold already what benchmarks/peers/requirements-*.txt say.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_USER

fail() {
  echo "error: $*" >&2
  exit 1
}

[[ -x .venv/bin/python ]] || fail "there is no .venv: run make install first"

make_environment() {
  local place=.peers/$1 lock=benchmarks/peers/requirements-$1.txt modules=$2
  if cmp --silent "$lock" "$place/installed"; then
    return
  fi
  echo "Installing $(grep -c == "$lock") packages into $place"
  .venv/bin/python -m venv --clear "$place"
  "$place/bin/python" -m pip --disable-pip-version-check --no-input install --quiet \
    --no-deps -r "$lock" || fail "$place could not be installed (see above)"
  "$place/bin/python" -c "import $modules" ||
    fail "$place cannot be used (see above); PyTorch must be its CPU build: put the file of torch 2.13.0 where pip finds it (PIP_FIND_LINKS) and run this again"
  cp "$lock" "$place/installed"
}

make_environment fedjax fedjax
make_environment torch 'torch, pfl, flwr.simulation, ray'
