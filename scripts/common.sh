# Read by the scripts beside it: where things are, and how they speak. Not a program.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
export AKIN_HOME=${AKIN_HOME:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/akin}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
tools=$root/build/venv              # Python of the tests, made by `scripts/setup test`

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=$(printf '\033[1m') plain=$(printf '\033[0m')
else
    bold='' plain=''
fi

heading() { printf '%s==> %s%s\n' "$bold" "$*" "$plain"; }
note() { printf '    %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2; exit 1; }

# cpus: how many processors a build may use.
cpus() { nproc 2>/dev/null || echo 2; }

# quietly LOG COMMAND...: runs it with its output in LOG, which is shown only when it fails.
quietly() {
    local log=$1
    shift
    mkdir -p "$(dirname -- "$log")"
    "$@" > "$log" 2>&1 && return
    tail -n 40 "$log" >&2
    die "'$*' failed; the whole output is in $log"
}
