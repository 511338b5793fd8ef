#!/usr/bin/env bash
# Types the lines of README.md at a fresh server, so that what a reader is told is what works.
#
# usage: tests/readme.sh LINESHAFT GRPCURL
#
# A block of the README that is marked `<!-- ci: run -->` is run as it stands, by bash, in the order of the file and
# all on one server; only the address is replaced, for `lineshaft` by LINESHAFT_SERVER. A comment `# => TEXT` in it is a promise: TEXT must be in its output.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
lineshaft=$(realpath "${1:?usage: tests/readme.sh LINESHAFT GRPCURL}") || exit 2
grpcurl=$(realpath "${2:?usage: tests/readme.sh LINESHAFT GRPCURL}") || exit 2

dir=$(mktemp -d) || exit 2
server=
cleanup() {
    if [[ -n $server ]]; then
        kill -TERM "$server" 2>/dev/null
        wait "$server" 2>/dev/null
    fi
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

mkdir "$dir/bin" "$dir/blocks" "$dir/here"
ln -s "$grpcurl" "$dir/bin/grpcurl"
ln -s "$lineshaft" "$dir/bin/lineshaft"
export PATH=$dir/bin:$PATH

"$lineshaft" serve --listen 127.0.0.1:0 --data-dir "$dir/data" >"$dir/server" 2>&1 &
server=$!
address=
for ((tries = 0; tries < 300; tries++)); do
    address=$(sed -nE 's|.*listening on http://([0-9.]+:[0-9]+).*|\1|p' "$dir/server" | head -n 1)
    [[ -z $address ]] || break
    kill -0 "$server" 2>/dev/null || break
    sleep 0.1
done
if [[ -z $address ]]; then
    echo "the server did not come up:" >&2
    cat "$dir/server" >&2
    echo "0 passed, 1 failed, 0 skipped"
    exit 1
fi

# One file for each marked block, its title the heading above it.
awk -v dir="$dir/blocks" '
    /^#+ / && !inside { title = $0; sub(/^#+ /, "", title) }
    /^<!-- ci: run -->$/ { marked = 1; next }
    marked && /^```sh$/ { inside = 1; marked = 0; file = sprintf("%s/%02d.sh", dir, ++n); print "# " title > file; next }
    inside && /^```$/ { inside = 0; close(file); next }
    inside { print > file }
    marked && NF { print "README.md: the mark before \"" $0 "\" has no sh block" > "/dev/stderr"; exit 1 }
' "$root/README.md" || exit 1

export LINESHAFT_SERVER=http://$address
passed=0 failed=0
for block in "$dir"/blocks/*.sh; do
    [[ -e $block ]] || break
    title="block $(basename "$block" .sh), $(head -n 1 "$block" | cut -c3-)"
    sed -i "s/127\.0\.0\.1:7340/$address/g" "$block"
    status=0
    # A stuck call would say nothing; a minute is far more than any of these takes.
    (cd "$dir/here" && timeout 60 bash -euo pipefail "$block") >"$dir/out" 2>&1 </dev/null || status=$?
    cat "$dir/out"
    missing=$(sed -nE 's/^# => (.*)$/\1/p' "$block" | while read -r promise; do
        grep -qF -- "$promise" "$dir/out" || printf '%s; ' "$promise"
    done)
    if ((status == 0)) && [[ -z $missing ]]; then
        passed=$((passed + 1))
        echo "ok: $title"
    else
        failed=$((failed + 1))
        echo "FAILED: $title: exit status $status${missing:+, not in the output: $missing}"
        sed 's/^/    /' "$block"
    fi
done
if ((failed > 0)); then
    echo "what the server said:"
    cat "$dir/server"
fi
echo "$passed passed, $failed failed, 0 skipped"
((passed > 0 && failed == 0))
