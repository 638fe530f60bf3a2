#!/bin/sh
# check.sh CMAKE CC BUILD: installs BUILD to a scratch prefix, then builds and runs consumer.c as a
# stranger would, with pkg-config and with find_package, shared and static.
set -eu
cmake=$1 cc=$2 build=$3
here=$(cd "$(dirname -- "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A library with sanitizers needs consumers with sanitizers, which is not what is tested here.
if nm "$build/libakin.a" 2>/dev/null | grep -q '__[atu]*san_'; then
    echo "install: skipped, the library is built with sanitizers"
    exit 77
fi

"$cmake" --install "$build" --prefix "$scratch/prefix" > "$scratch/log" || { cat "$scratch/log"; exit 1; }
library=$(dirname -- "$(find "$scratch/prefix" -name libakin.a)")
export PKG_CONFIG_PATH="$library/pkgconfig"

$cc -o "$scratch/one" "$here/consumer.c" $(pkg-config --cflags --libs akin)
LD_LIBRARY_PATH=$library "$scratch/one"

# the example of the README compiles as it stands there
sed -n '/^```c$/,/^```$/p' "$here/../../README.md" | sed '1d;$d' > "$scratch/readme.c"
$cc -Wall -Wextra -Werror -o "$scratch/readme" "$scratch/readme.c" $(pkg-config --cflags --libs akin)

# libakin.a by its path: the linker would prefer the shared one
$cc -o "$scratch/two" "$here/consumer.c" $(pkg-config --cflags akin) "$library/libakin.a" \
    $(pkg-config --static --libs akin | sed 's/-lakin / /')
env -u LD_LIBRARY_PATH "$scratch/two"

"$cmake" -S "$here" -B "$scratch/three" -D CMAKE_C_COMPILER="$cc" \
    -D CMAKE_PREFIX_PATH="$scratch/prefix" > "$scratch/log" 2>&1 \
    && "$cmake" --build "$scratch/three" >> "$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
"$scratch/three/consumer"
"$scratch/three/consumer_static"

[ ! -x "$build/akin" ] || "$scratch/prefix/bin/akin" --version
echo "install: pkg-config, static and find_package consumers run"
