#!/usr/bin/env bash
# A server and a worker, two processes, one configuration: a task is sent, worked and answered; then the configuration
# changes and the server takes it over while it runs.
#
# usage: examples/walkthrough.sh [LINESHAFT]
#
# Works in a directory of its own and removes it; the server listens on a free port. CI runs it as it stands.
set -euo pipefail
lineshaft=${1:-lineshaft}
if [[ $lineshaft == */* ]]; then lineshaft=$(realpath "$lineshaft"); fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

dir=$(mktemp -d)
server='' worker=''
cleanup() {
    for process in $worker $server; do
        kill -TERM "$process" 2>/dev/null || continue
        wait "$process" || true
    done
    rm -rf "$dir"
}
trap cleanup EXIT
cd "$dir"

# Waits until a file holds a line that matches.
until_in() {
    local tries
    for ((tries = 0; tries < 300; tries++)); do
        if grep -qE "$2" "$1" 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    echo "$1 does not say $2:" >&2
    cat "$1" >&2
    return 1
}

echo "1. the configuration is good"
cp "$here/config.yml" config.yml
"$lineshaft" config check --config config.yml

echo "2. the first process: a server"
"$lineshaft" serve --config config.yml --listen 127.0.0.1:0 --reload >server.out 2>server.log &
server=$!
until_in server.out 'listening on'
LINESHAFT_SERVER=$(sed -nE 's/^listening on (.*)$/\1/p' server.out)
export LINESHAFT_SERVER

echo "3. the second process: a worker; any program will do"
"$lineshaft" work --task shout --queue mail -- tr a-z A-Z >worker.log 2>&1 &
worker=$!

echo "4. a task, and its result"
result=$("$lineshaft" send shout hello --queue mail --wait)
echo "$result"
[[ $result == *HELLO* ]]

echo "5. the configuration changes while both run"
sed 's/batch_max: 1000/batch_max: 500/' "$here/config.yml" >next.yml
mv next.yml config.yml
kill -HUP "$server"
until_in server.log 'configuration changed.*limits\.batch_max'
result=$("$lineshaft" send shout again --queue mail --wait)
echo "$result"
[[ $result == *AGAIN* ]]

echo "6. a broken file changes nothing"
echo 'leases: 3' >config.yml
kill -HUP "$server"
until_in server.log 'the configuration is not changed.*config\.yml:1:1'
[[ $("$lineshaft" send shout still --queue mail --wait) == *STILL* ]]
echo "done"
