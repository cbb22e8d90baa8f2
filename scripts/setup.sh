#!/bin/sh
# Creates .venv with everything that requirements.lock pins, and installs the checkout into it.
# PYTHON names the interpreter. Default: the first one on the PATH that is new enough.
set -eu
cd "$(dirname "$0")/.."

# `sudo make cluster` needs root for the run, not for the set-up, whose files would belong to root.
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_UID:-}" ] && [ "$SUDO_UID" != 0 ]; then
    exec sudo -H -u "#$SUDO_UID" -g "#$SUDO_GID" PYTHON="${PYTHON:-}" PATH="$PATH" sh scripts/setup.sh
fi

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' </dev/null >/dev/null 2>&1
}

chosen=
if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.14 python3.13 python3.12 python3.11; fi
for python in "$@"; do
    if new_enough "$python"; then
        chosen=$python
        break
    fi
done
[ -n "$chosen" ] || fail \
    "Python 3.11 or newer is required; ${PYTHON:-python3} is $("${PYTHON:-python3}" -V 2>/dev/null || echo missing)" \
    "install it (Debian 12, Ubuntu 23.04 or newer: apt-get install python3 python3-venv;" \
    "Ubuntu 22.04: apt-get install python3.11-venv; macOS: brew install python)" \
    "or name an interpreter: make setup PYTHON=/path/to/python3.11"

"$chosen" -c 'import ensurepip, venv' 2>/dev/null || fail \
    "$chosen cannot create virtual environments, because a package is missing" \
    "run: apt-get install python$("$chosen" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"

exec "$chosen" scripts/setup_environment.py
