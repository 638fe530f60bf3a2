#!/bin/sh
# docs_test.sh ROOT: what the pages link to exists, and every `make` door they name is one.
set -eu
cd "$1"
failed=0 links=0
for page in *.md docs/*.md docs/decisions/*.md; do
    folder=$(dirname -- "$page")
    for link in $(grep -oE '\]\([^)#]+' "$page" | cut -c3- | grep -vE '^https?:'); do
        links=$((links + 1))
        [ -e "$folder/$link" ] || { echo "$page: links to $link, which does not exist"; failed=1; }
    done
    for door in $(grep -oE '`make [a-z-]+|^make [a-z-]+' "$page" | sed 's/.*make //'); do
        grep -q "^$door:" Makefile || { echo "$page: names 'make $door', which Makefile lacks"; failed=1; }
    done
done
for decision in docs/decisions/[0-9]*.md; do
    grep -qF "($(basename -- "$decision"))" docs/decisions/README.md \
        || { echo "docs/decisions/README.md: does not list $decision"; failed=1; }
done
echo "docs_test: $links links"
[ "$links" -gt 0 ] && [ "$failed" = 0 ]
