#!/usr/bin/env bash
# Tries the runner on made-up steps: a runner that counts wrongly would make every other result worthless.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2

passed=0 failed=0
# expect NAME EXPECTED ACTUAL
expect() {
    if [[ $2 == "$3" ]]; then
        passed=$((passed + 1))
        echo "ok: $1"
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n  expected: %s\n  actual:   %s\n' "$1" "$2" "$3"
    fi
}

# made_up COMMANDS: runs them as a suite of their own; its last lines and its status are in $said and $status.
made_up() {
    status=0
    said=$(bash -c '. tests/lib/steps.sh; run_begin; suite_begin made-up; eval "$1"; suite_end; run_end' _ "$1" 2>&1) || status=$?
    totals=$(tail -n 1 <<<"$said")
}

summary='test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s'

# "No process is left behind" is one more that passes, in each.
made_up 'step a true; step b true'
expect "steps that succeed are counted" "3 passed, 0 failed, 0 skipped / 0" "$totals / $status"
made_up 'step a true; step b bash -c "exit 7"'
expect "a step that fails is counted, and fails the run" "2 passed, 1 failed, 0 skipped / 1" "$totals / $status"
made_up "rust_tests a printf '%s\n' '$summary' '$summary'"
expect "the summaries of all test binaries are added up" "7 passed, 0 failed, 0 skipped / 0" "$totals / $status"
made_up "rust_tests a bash -c 'echo \"$summary\"; echo \"test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured\"; exit 101'"
expect "failed and ignored tests are counted as such" "6 passed, 1 failed, 1 skipped / 1" "$totals / $status"
made_up "rust_tests a bash -c 'echo \"$summary\"; exit 101'"
expect "a runner that dies after a good summary has failed" "4 passed, 1 failed, 0 skipped / 1" "$totals / $status"
made_up "rust_tests a echo 'test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured'"
expect "a runner that ran nothing has failed" "1 passed, 1 failed, 0 skipped / 1" "$totals / $status"
made_up "counted a echo 'x: 4 passed, 0 failed, 2 skipped'"
expect "the plain summary is read" "5 passed, 0 failed, 2 skipped / 0" "$totals / $status"
made_up 'skip a "it cannot be had"'
expect "a skip is counted, with its reason" "1 passed, 0 failed, 1 skipped / 0 / 1" \
    "$totals / $status / $(grep -c '^skipped made-up: a: it cannot be had$' <<<"$said")"

# installing STATUS…: installs a tool whose attempts end so; 0 is one that is there afterwards.
#
# What stands in single quotes is expanded by the shell of the suite.
# shellcheck disable=SC2016
installing() {
    made_up "LINESHAFT_TEST_CACHE=\$RUN_DIR/cache"'; . tests/lib/tools.sh
        sleep() { echo "$1" >>"$RUN_DIR/pauses"; }
        have_x() { [[ -e $RUN_DIR/x ]]; }
        statuses=('"$*"')
        install_x() {
            local status=${statuses[0]}
            statuses=("${statuses[@]:1}")
            echo "$status" >>"$RUN_DIR/attempts"
            if ((status == 0)); then touch "$RUN_DIR/x"; fi
            return "$status"
        }
        prepare x
        if need x; then step a true; else step a false; fi
        echo "attempts $(paste -sd " " "$RUN_DIR/attempts"), pauses $(paste -sd " " "$RUN_DIR/pauses" 2>/dev/null)"'
    attempts=$(grep '^attempts ' <<<"$said")
}
installing 1 1 0
expect "an installation that fails is tried again, later each time" "attempts 1 1 0, pauses 5 10 / 0" "$attempts / $status"
installing 1 2 4
expect "three times at most" "attempts 1 2 4, pauses 5 10 / 1" "$attempts / $status"
expect "and what the last attempt said is shown, alone" "installing x: attempt 3 of 3" "$(grep '^installing' <<<"$said")"
installing 127
expect "what lacks its package client is not tried again" "attempts 127, pauses  / 1" "$attempts / $status"

if [[ -d /proc/self ]]; then
    made_up "step a bash -c 'setsid sleep 1000.$$ & exit 0'"
    expect "what a test leaves behind fails the suite" "1 passed, 1 failed, 0 skipped / 1" "$totals / $status"
    expect "and is ended" "" "$(grep -lzxF "1000.$$" /proc/[0-9]*/cmdline 2>/dev/null)"
fi

said=$(tests/run.sh no-such-suite 2>&1)
expect "an unknown suite is refused" "2 tests/run.sh: there is no suite 'no-such-suite'" "$? $(head -n 1 <<<"$said")"

echo "$passed passed, $failed failed, 0 skipped"
((failed == 0 && passed > 0))
