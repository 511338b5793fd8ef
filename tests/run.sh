#!/usr/bin/env bash
# Runs every test, real services included: tests/run.sh [SUITE…]; without an argument every suite of this version.
#
# A suite is a file in tests/suites/. It needs no other suite, installs what it needs into a cache (tests/lib/tools.sh),
# starts services on private ports in temporary directories, and ends what it started, by process id, also on Ctrl-C.
# Each suite closes with `SUITE: N passed, N failed, N skipped`; the last line of all is `N passed, N failed, N skipped`.
# The exit status is 0 only if nothing failed; 2 if the arguments are wrong.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 2

# Every suite there will be, in the order in which they run. One that this version lacks is refused by name.
readonly KNOWN=(core redis workflows amqp sqs backends clients operations bench)

usage() {
    echo "usage: tests/run.sh [SUITE…]; the suites are: ${KNOWN[*]}" >&2
    exit 2
}

suites=()
for suite in "$@"; do
    case " ${KNOWN[*]} " in
    *" $suite "*) ;;
    *)
        echo "tests/run.sh: there is no suite '$suite'" >&2
        usage
        ;;
    esac
    if [[ ! -f tests/suites/$suite.sh ]]; then
        echo "tests/run.sh: this version of Lineshaft has no suite '$suite' yet" >&2
        exit 2
    fi
    suites+=("$suite")
done
if [[ $# -eq 0 ]]; then
    for suite in "${KNOWN[@]}"; do
        if [[ -f tests/suites/$suite.sh ]]; then suites+=("$suite"); fi
    done
fi

# shellcheck source=tests/lib/steps.sh
. tests/lib/steps.sh
# shellcheck source=tests/lib/tools.sh
. tests/lib/tools.sh

run_begin
for suite in "${suites[@]}"; do
    suite_begin "$suite"
    # shellcheck source=/dev/null
    . "tests/suites/$suite.sh"
    suite_end
done
run_end
