#!/bin/sh
# python.sh SCRIPT ARGUMENT...: runs it with build/venv where `scripts/setup test` made that, else with
# the system's python3. Decided now, not when the build was configured.
root=$(cd -- "$(dirname -- "$0")/.." && pwd)
python=$root/build/venv/bin/python
[ -x "$python" ] || python=python3
export PYTHONDONTWRITEBYTECODE=1
exec "$python" "$@"
