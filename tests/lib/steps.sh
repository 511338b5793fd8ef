# shellcheck shell=bash
# Steps of a suite: run one, time it, count what really ran, end what it started. Sourced by tests/run.sh.
#
# What a suite uses: `step`, `rust_tests`, `counted` and `skip`; `start` and `ended` for a job beside the steps.
# A step counts as one test; a test runner counts as what its own summary says.

RUN_DIR=
SUITE=
STEP_NUMBER=0
SUITE_PASSED=0 SUITE_FAILED=0 SUITE_SKIPPED=0
TOTAL_PASSED=0 TOTAL_FAILED=0 TOTAL_SKIPPED=0
TROUBLES=()
# Leaders of the process groups that were started and not yet waited for.
GROUPS_ALIVE=()

run_begin() {
    RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/lineshaft-tests.XXXXXX") || exit 2
    mkdir -p "$RUN_DIR/tmp" "$RUN_DIR/log"
    # What a test leaves in the temporary directory goes with the run's own.
    export TMPDIR=$RUN_DIR/tmp
    # Every process that a step starts inherits this, so that one left behind is recognised (see `leftovers`).
    export LINESHAFT_TEST_RUN=$RUN_DIR
    # What configures a server, or a client, of whoever runs the tests is not for the servers under test.
    unset BROKER RESULT_BACKEND DEFAULT_QUEUE RESULTS_EXPIRE_IN
    local name
    for name in $(compgen -e LINESHAFT_); do
        case $name in LINESHAFT_TEST_*) ;; *) unset "$name" ;; esac
    done
    # Summaries are parsed, so no colour codes in them.
    export CARGO_TERM_COLOR=never NO_COLOR=1
    trap 'interrupted INT' INT
    trap 'interrupted TERM' TERM
    trap 'end_all; rm -rf "$RUN_DIR"' EXIT
}

interrupted() {
    trap '' INT TERM
    printf '\ntests/run.sh: stopped by SIG%s; ending what was started\n' "$1" >&2
    exit $((128 + $([[ $1 == INT ]] && echo 2 || echo 15)))
}

# Starts a command as the leader of a process group of its own; the group is in $STARTED.
start() {
    set -m
    "$@" </dev/null &
    STARTED=$!
    set +m
    GROUPS_ALIVE+=("$STARTED")
}

# Waits for a started group's leader and answers its exit status.
ended() {
    local group=$1 status=0 kept=() other
    wait "$group" || status=$?
    for other in "${GROUPS_ALIVE[@]}"; do
        if [[ $other != "$group" ]]; then kept+=("$other"); fi
    done
    GROUPS_ALIVE=("${kept[@]+"${kept[@]}"}")
    return "$status"
}

# Ends what still runs: asks first, insists after ten seconds.
end_all() {
    local group tries
    for group in "${GROUPS_ALIVE[@]+"${GROUPS_ALIVE[@]}"}"; do
        kill -TERM -- "-$group" 2>/dev/null || continue
        for ((tries = 0; tries < 100; tries++)); do
            kill -0 -- "-$group" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$group" 2>/dev/null
    done
    GROUPS_ALIVE=()
    for group in $(leftovers); do
        kill -KILL "$group" 2>/dev/null
    done
    return 0
}

# Process ids of this run that are still there: those whose environment names the run. Only where there is a /proc.
leftovers() {
    # Listed before the search starts, or it would find itself.
    local files=(/proc/[0-9]*/environ)
    grep -lzxF "LINESHAFT_TEST_RUN=$RUN_DIR" "${files[@]}" 2>/dev/null | cut -d/ -f3
}

suite_begin() {
    SUITE=$1
    SUITE_PASSED=0 SUITE_FAILED=0 SUITE_SKIPPED=0
    printf '\n===== %s\n' "$SUITE"
}

suite_end() {
    local pid tries
    if [[ -d /proc/self ]]; then
        # A process that was told to end may need a moment.
        for ((tries = 0; tries < 50; tries++)); do
            [[ -n $(leftovers) ]] || break
            sleep 0.1
        done
        if [[ -z $(leftovers) ]]; then
            passed "no process is left behind"
        else
            failed "no process is left behind" "$(for pid in $(leftovers); do
                printf '%s (%s) ' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
            done 2>/dev/null)"
            end_all
        fi
    fi
    printf '\n%s: %d passed, %d failed, %d skipped\n' "$SUITE" "$SUITE_PASSED" "$SUITE_FAILED" "$SUITE_SKIPPED"
    TOTAL_PASSED=$((TOTAL_PASSED + SUITE_PASSED))
    TOTAL_FAILED=$((TOTAL_FAILED + SUITE_FAILED))
    TOTAL_SKIPPED=$((TOTAL_SKIPPED + SUITE_SKIPPED))
}

run_end() {
    local line
    # A run that ran nothing has shown nothing.
    if ((TOTAL_PASSED + TOTAL_FAILED == 0)); then
        SUITE=run failed "some test ran" "none did"
        TOTAL_FAILED=1
    fi
    printf '\n===== after %s s\n' "$SECONDS"
    for line in "${TROUBLES[@]+"${TROUBLES[@]}"}"; do printf '%s\n' "$line"; done
    printf '%d passed, %d failed, %d skipped\n' "$TOTAL_PASSED" "$TOTAL_FAILED" "$TOTAL_SKIPPED"
    ((TOTAL_FAILED == 0))
    exit
}

passed() {
    SUITE_PASSED=$((SUITE_PASSED + ${2:-1}))
    printf '+++ %s: %s\n' "$SUITE" "$1"
}

failed() {
    SUITE_FAILED=$((SUITE_FAILED + ${3:-1}))
    TROUBLES+=("FAILED $SUITE: $1: $2")
    printf '!!! %s: %s: %s\n' "$SUITE" "$1" "$2"
}

# skip NAME REASON [COUNT]
skip() {
    SUITE_SKIPPED=$((SUITE_SKIPPED + ${3:-1}))
    TROUBLES+=("skipped $SUITE: $1: $2")
    printf -- '--- %s: %s: skipped: %s\n' "$SUITE" "$1" "$2"
}

# Runs a command with its output shown and kept in $LOG; its status is in $STATUS and its time in $TOOK.
logged() {
    local name=$1 begun=$SECONDS
    shift
    STEP_NUMBER=$((STEP_NUMBER + 1))
    LOG=$RUN_DIR/log/$STEP_NUMBER
    printf '\n>>> %s: %s\n' "$SUITE" "$name"
    start keeping_log "$LOG" "$@"
    STATUS=0
    ended "$STARTED" || STATUS=$?
    TOOK=$((SECONDS - begun))
    if [[ -n $(tail -c 1 "$LOG") ]]; then echo; fi
}

# Not a pipe into `tee`: that would wait for whatever the command left behind with the pipe open.
keeping_log() {
    local log=$1 status=0
    shift
    # Made before `tail` looks for it, which gives up at once on a file that is not there yet.
    : >"$log"
    "$@" >"$log" 2>&1 &
    tail -n +1 -f -s 0.2 --pid=$! "$log" 2>/dev/null
    wait $! || status=$?
    return "$status"
}

# step NAME COMMAND…: one test, passed if the command succeeds.
step() {
    local name=$1
    logged "$@"
    if ((STATUS == 0)); then
        passed "$name ($TOOK s)"
    else
        failed "$name" "exit status $STATUS after $TOOK s"
    fi
}

# rust_tests NAME COMMAND…: counts what the summaries of cargo's test binaries say.
rust_tests() {
    local name=$1
    logged "$@"
    tally "$name" "$(sed -nE 's/^test result: [a-zA-Z]+\. ([0-9]+) passed; ([0-9]+) failed; ([0-9]+) ignored;.*/\1 \2 \3/p' "$LOG")"
}

# counted NAME COMMAND…: counts what lines of the form `[WORD: ]N passed, N failed[, N skipped]` say.
counted() {
    local name=$1
    logged "$@"
    tally "$name" "$(sed -nE 's/^([a-z0-9_-]+: )?([0-9]+) passed, ([0-9]+) failed(, ([0-9]+) skipped)?$/\2 \3 \5/p' "$LOG")"
}

tally() {
    local name=$1 p=0 f=0 s=0 a b c
    while read -r a b c; do
        p=$((p + a)) f=$((f + b)) s=$((s + ${c:-0}))
    done < <(if [[ -n $2 ]]; then printf '%s\n' "$2"; fi)
    if ((f > 0)); then
        failed "$name" "$f of $((p + f)) failed: $(sed -nE 's/^test (.*) \.\.\. FAILED$/\1/p' "$LOG" | head -n 20 | paste -sd' ')" "$f"
    elif ((STATUS != 0)); then
        failed "$name" "exit status $STATUS after $TOOK s"
    elif ((p == 0)); then
        failed "$name" "it ran nothing"
    fi
    if ((p > 0)); then passed "$name: $p ($TOOK s)" "$p"; fi
    if ((s > 0)); then skip "$name" "the runner says so" "$s"; fi
}
