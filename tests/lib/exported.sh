#!/usr/bin/env bash
# For `make test`: the integration tests against each store whose address is exported, or why there are none.
#
# AMQP_URL REDIS_URL MEMCACHE_URL MONGODB_URL SQS_URL; a host without a scheme is taken as one of its kind. A room that
# this version lacks is said to be lacking: a test that would pass without touching the store would be a lie.
set -uo pipefail

told=0
lacking() {
    local variable=$1 store=$2
    if [[ -n ${!variable:-} ]]; then
        echo "$variable is exported, but this version of Lineshaft has no room for $store yet: nothing was tested against it"
        told=1
    fi
}
lacking AMQP_URL "AMQP"
lacking REDIS_URL "Redis"
lacking MEMCACHE_URL "Memcached"
lacking MONGODB_URL "MongoDB"
lacking SQS_URL "AWS SQS"
if ((told == 0)); then
    echo "no store's address is exported (AMQP_URL REDIS_URL MEMCACHE_URL MONGODB_URL SQS_URL): unit tests only"
fi
