#!/usr/bin/env bash
# Makes .venv hold exactly what requirements.lock says, and this package. Does
# nothing where that is so already; starts afresh where an installation was cut short.
set -euo pipefail
cd "$(dirname "$0")/.."
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_USER

fail() {
  echo "error: $*" >&2
  exit 1
}

[[ $(uname -sm) == 'Linux x86_64' ]] ||
  fail "TensorFlow Federated has packages for Linux on x86_64 only, this is $(uname -sm): use such a machine, or a container or virtual machine of that kind"

# One installation at a time, should two be asked for at once.
exec 9< requirements.lock
flock 9

# Only an environment that is whole has a stamp. One that was moved is not: its
# commands name the place where they were installed.
stamp=.venv/installed
place=$(pwd -P)
key=$(cat requirements.lock setup.cfg pyproject.toml scripts/install.sh | sha256sum)
whole=
if [[ -f $stamp && $(head -n 1 $stamp) == "$place" ]] &&
  .venv/bin/python -c '' 2> /dev/null; then
  whole=yes
  [[ $(tail -n 1 $stamp) == "$key" ]] && exit 0
fi

glibc=$(getconf GNU_LIBC_VERSION 2> /dev/null | cut -d' ' -f2 || true)
[[ $(printf '%s\n' 2.31 "$glibc" | sort -V | head -n 1) == 2.31 ]] ||
  fail "TensorFlow Federated needs glibc 2.31 or newer, this system has ${glibc:-another C library}: use Debian 11, Ubuntu 20.04 or a newer one"
grep -qw avx /proc/cpuinfo ||
  fail "TensorFlow needs a processor with AVX, this one has none: use another machine"

candidates=(python3.11 python3)
[[ -z ${PYTHON:-} ]] || candidates=("$PYTHON")
python=
for candidate in "${candidates[@]}"; do
  if "$candidate" -c 'import sys
sys.exit(sys.version_info[:2] != (3, 11) or sys.implementation.name != "cpython")' 2> /dev/null; then
    python=$candidate
    break
  fi
done
[[ -n $python ]] ||
  fail "CPython 3.11 is needed and ${PYTHON:-neither python3.11 nor python3} is not one: install it, or say where it is, as in: make test PYTHON=/path/to/python3.11"
"$python" -c 'import ensurepip, venv' 2> /dev/null ||
  fail "$python cannot make virtual environments: install its venv module (Debian and Ubuntu: apt install python3.11-venv)"

if [[ -n $whole ]]; then
  echo "Bringing .venv up to date with requirements.lock"
else
  echo "Installing $(grep -c == requirements.lock) packages into .venv (3 GB on disk; a minute, and the time of the download)"
  "$python" -m venv --clear .venv
fi
rm -f $stamp

pip() {
  .venv/bin/python -m pip --disable-pip-version-check --no-input "$@"
}
quiet=$([[ -t 1 ]] || echo --quiet)
# SQLAlchemy 1.4.20 is built here, by these two rather than by whatever is newest.
awk '/^[^ #]/ { keep = /^(setuptools|wheel)==/ } keep' requirements.lock > .venv/build-tools.lock
for lock in .venv/build-tools.lock requirements.lock; do
  pip install $quiet --no-deps --no-build-isolation --require-hashes -r $lock ||
    fail "the packages could not be installed (see above): mend it and run the same command again"
done
pip install --quiet --no-deps --no-build-isolation --editable . ||
  fail "this package could not be installed (see above)"

# TensorFlow Federated 0.87.0 asks for jax and jaxlib 0.4.14 (BUILD_NOTES.md).
known='^tensorflow-federated 0\.87\.0 has requirement jax(lib)?==0\.4\.14, but you have jax(lib)? 0\.4\.18\.$'
complaints=$(pip check | grep -Ev "$known" | grep -v '^No broken requirements found\.$' || true)
[[ -z $complaints ]] || fail "packages in .venv do not fit together: $complaints"

printf '%s\n' "$place" "$key" > $stamp
