#!/bin/sh
# Make or refresh the folder .venv: the exact versions of requirements.lock, and this checkout itself.
# usage: PYTHON=python3 tools/setup.sh        `make setup` calls it when .venv is missing or out of date
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

refuse() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

command -v "$python" >/dev/null 2>&1 ||
    refuse "no program called $python; install Python 3.11 or newer, or name one: make setup PYTHON=python3.12"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    refuse "$("$python" --version 2>&1) is too old: outdial needs 3.11 or newer; name one: make setup PYTHON=python3.12"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    refuse "$python has no venv module; on Debian or Ubuntu: apt-get install python3-venv"

# A folder that another Python made, or that an interrupted setup left behind, is made anew.
version='import sys; print(sys.version_info[:2])'
if [ "$(.venv/bin/python -c "$version" 2>/dev/null)" != "$("$python" -c "$version")" ] ||
    ! .venv/bin/pip --version >/dev/null 2>&1; then
    rm -rf .venv
    "$python" -m venv .venv
fi

# The caller's settings for pip's own behaviour must not move the packages elsewhere.
export PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
unset PIP_TARGET PIP_PREFIX PIP_REQUIRE_HASHES PIP_NO_BINARY PYTHONPATH PYTHONHOME
echo "setup: installing the packages of requirements.lock into .venv"
.venv/bin/python -m pip install -qq --require-hashes --no-deps -r requirements.lock
.venv/bin/python -m pip install -qq --no-deps --no-build-isolation --editable .
touch .venv/ready
echo "setup: done; the command is .venv/bin/outdial"
