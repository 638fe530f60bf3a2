# Sourced by the comparisons, which have set `here`, this folder, and `comparison`: search, train, ...
# Sets `root` and `work`, where their files lie; installs what they need into a virtual environment.

root=$(cd "$here/../.." && pwd)
work=$root/build/peers-$comparison
requirements=$here/requirements-$comparison.txt
export PYTHONDONTWRITEBYTECODE=1

say() { echo "$comparison: $*" >&2; }

# install_once WHAT SIZE INSTALL FILES...: calls INSTALL, which uses "${pip[@]}", in the comparison's
# virtual environment, once per state of the requirements and of the FILES.
install_once() {
    local stamp what=$1 size=$2 install=$3 mark=$work/installed
    shift 3
    command -v python3 >/dev/null ||
        { say "python3 is missing (apt-get install python3 python3-venv)"; exit 1; }
    stamp=$(cat "$requirements" "$@" | sha256sum)
    if [ "$stamp" = "$(cat "$mark" 2>/dev/null)" ]; then return; fi
    mkdir -p "$work"
    [ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
    say "installing $what from PyPI into ${work#"$root/"}/venv ($size, once)"
    pip=("$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps)
    $install
    echo "$stamp" >"$mark"
}

# The requirements; one package that fails does not stop the others.
install_each() {
    local package
    if "${pip[@]}" -r "$requirements" 2>"$work/pip.log"; then return; fi
    grep -v '^#' "$requirements" | while read -r package; do
        "${pip[@]}" "$package" 2>>"$work/pip.log" || say "$package: could not be installed"
    done
}
