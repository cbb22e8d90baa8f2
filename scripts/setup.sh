#!/bin/sh
# Makes .venv with everything that requirements.lock pins, and the checkout itself in it.
# PYTHON names the interpreter; otherwise the first on the PATH that is new enough is taken.
set -eu
cd "$(dirname "$0")/.."

say_and_stop() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1
}

chosen=
for python in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    if new_enough "$python"; then
        chosen=$python
        break
    fi
done
[ -n "$chosen" ] || say_and_stop \
    "Python 3.11 or newer is needed; ${PYTHON:-python3} is $("${PYTHON:-python3}" -V 2>/dev/null || echo not there)" \
    "install one (Debian 12, Ubuntu 23.04 or newer: apt-get install python3 python3-venv; macOS: brew install python)" \
    "or name one: make setup PYTHON=/path/to/python3.11"

"$chosen" -c 'import ensurepip, venv' 2>/dev/null || say_and_stop \
    "$chosen cannot make virtual environments, because a part of it is not installed" \
    "run: apt-get install python$("$chosen" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"

# An environment whose interpreter is gone or too old is made anew.
if [ ! -x .venv/bin/pip ] || ! new_enough .venv/bin/python; then
    "$chosen" -m venv --clear .venv
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
.venv/bin/python -m pip install --quiet --require-hashes -r requirements.lock
.venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
touch .venv/.installed
