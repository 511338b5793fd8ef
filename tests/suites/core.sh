# shellcheck shell=bash
# The service on its embedded store, the Rust client, and everything about the repository itself. No services needed.
#
# One cargo profile, `release`, for all of it: the dependencies are compiled once for the program and its tests, and
# checked once for the lints and the documentation.

prepare grpcurl cargo_deny buf hadolint shellcheck docker_compose faketime

counted "the test runner itself" tests/lib/selftest.sh
step "cargo fmt" cargo fmt --all --check
step "cargo clippy" cargo clippy --release --workspace --all-targets --locked -- -D warnings
step "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --locked
step "cargo check, embedded alone" cargo check --release --locked --no-default-features --features embedded
step "cargo check, full" cargo check --release --locked --features full
# Together with the examples, among them the producer and the worker that the fault tests run as processes of their own:
# so the program has its dependencies as the tests have them, and neither is compiled a second time.
step "cargo build" cargo build --release --workspace --locked --bins --examples

# Fault suites kill processes and measure time, so each of their tests has the machine for itself.
mapfile -t core_tests < <(cargo metadata --no-deps --format-version 1 --locked |
    grep -oE '"kind":\["test"\],"crate_types":\["bin"\],"name":"[^"]+"' | sed -E 's/.*"name":"(.*)"$/\1/')
core_parallel=() core_serial=()
for core_test in "${core_tests[@]}"; do
    case $core_test in
    fault*) core_serial+=(--test "$core_test") ;;
    # In suites of their own.
    operations | interop | redis) ;;
    *) core_parallel+=(--test "$core_test") ;;
    esac
done
rust_tests "unit and integration tests" cargo test --release --workspace --locked --no-fail-fast \
    --lib --bins --examples "${core_parallel[@]+"${core_parallel[@]}"}"
rust_tests "examples in the documentation" cargo test --release --workspace --locked --no-fail-fast --doc
if ((${#core_serial[@]} > 0)); then
    # The tests of a stepped clock say that they are skipped where this is not set.
    if need faketime; then
        LINESHAFT_TEST_FAKETIME=$(faketime_library)
        export LINESHAFT_TEST_FAKETIME
    else
        skip "a stepped clock" "libfaketime is not here, and installing it takes apt-get and root" 4
    fi
    # Those on Redis and those of workflows are suites of their own.
    rust_tests "fault tests" cargo test --release --workspace --locked --no-fail-fast "${core_serial[@]}" -- --test-threads=1 --skip replicas:: --skip workflows::
fi

# The protocol. A published field never changes its meaning: compared with the last release, before the first one with
# the commit before. A commit that breaks an unreleased protocol says so in a trailer, `Breaks-Protocol: why`.
if need buf; then
    step "buf lint" "$BUF" lint proto
    core_base=$(git describe --tags --abbrev=0 --match 'v[0-9]*' HEAD 2>/dev/null || git rev-parse -q --verify HEAD~1 2>/dev/null)
    core_breaks=$(git log -1 --format='%(trailers:key=Breaks-Protocol,valueonly)' 2>/dev/null)
    mkdir -p "$RUN_DIR/before"
    if [[ -n $core_breaks ]]; then
        skip "buf breaking" "the commit says that it breaks the protocol: $core_breaks"
    elif [[ -z $core_base ]] || ! git archive "$core_base" proto 2>/dev/null | tar -x -C "$RUN_DIR/before" 2>/dev/null; then
        skip "buf breaking" "there is no earlier protocol in this repository's history to compare with"
    else
        step "buf breaking" "$BUF" breaking proto --against "$RUN_DIR/before/proto"
    fi
else
    failed "buf" "it cannot be installed; it takes npm"
fi

if need cargo_deny; then
    step "cargo deny" "$CARGO_DENY" --locked --all-features check bans licenses sources
    skip "cargo deny, advisories" "the advisory database is a git repository, not a package; run 'cargo deny check advisories' where it can be fetched"
else
    failed "cargo deny" "it cannot be installed"
fi

if need shellcheck; then
    mapfile -t core_scripts < <(git ls-files '*.sh' .ci/run)
    step "shellcheck" "$SHELLCHECK" --severity=warning -x "${core_scripts[@]}"
else
    failed "shellcheck" "it cannot be installed; it takes python3"
fi
if need hadolint; then
    step "hadolint" "$HADOLINT" deploy/Dockerfile
else
    failed "hadolint" "it cannot be installed; it takes python3"
fi
if need docker_compose; then
    step "docker-compose config" docker-compose -f docker-compose.yml config -q
else
    skip "docker-compose config" "docker-compose is not here, and installing it takes apt-get and root"
fi

# What a user is told to type, typed.
if need grpcurl; then
    counted "the lines of the README" tests/readme.sh target/release/lineshaft "$GRPCURL"
else
    failed "the lines of the README" "grpcurl cannot be installed; it takes go"
fi
step "the walk-through" examples/walkthrough.sh target/release/lineshaft
step "demo" cargo run --release --locked -- demo
