#!/bin/sh
# Prepares the volumes before MongoDB and Redis start. Runs at every `docker compose up`, and changes nothing twice.
#
# Splits the secrets of .env into one volume for each kind of process, readable only by its user, and generates the key
# file and the passwords of MongoDB, and the keys of erasures, once. Secrets in files appear neither in `docker inspect`
# nor on a command line.
set -eu
umask 077

SERVERS=999 # the users mongodb and redis of the official images
OURS=10001  # the user of the Dockerfile
GIVEN=/run/given

fail() {
    echo "prepare: $1" >&2
    exit 1
}

given() { # NAME: the value of a line NAME=value
    sed -n "s/^$1=//p" "$GIVEN"
}

generate() { # FILE: 32 random bytes in hex, unless the file exists
    [ -s "$1" ] || od -An -tx1 -v -N32 /dev/urandom | tr -d ' \n' >"$1"
}

generate_signing_key() { # FILE: an Ed25519 key in PEM (RFC 8410: these 16 bytes, and 32 random ones), unless the file exists
    [ -s "$1" ] || {
        echo "-----BEGIN PRIVATE KEY-----"
        { printf '\060\056\002\001\000\060\005\006\003\053\145\160\004\042\004\040' && head -c 32 /dev/urandom; } | base64
        echo "-----END PRIVATE KEY-----"
    } >"$1"
}

store() { # FILE VALUE: an empty value removes the file
    if [ -n "$2" ]; then printf '%s\n' "$2" >"$1"; else rm -f "$1"; fi
}

own() { # USER DIRECTORY: after a first time, only what is new belongs to another user
    find "$2" ! -user "$1" -exec chown "$1:$1" {} +
    chmod 700 "$2"
}

redis_password=$(given REDIS_PASSWORD)
case $redis_password in
*[!A-Za-z0-9._~-]*) fail "REDIS_PASSWORD in .env may only contain letters, digits and . _ ~ - because it is part of a URL" ;;
esac

generate /secrets/mongo/keyfile
generate /secrets/mongo/root_password
generate /secrets/mongo/snapshots_password
mongo_url=$(given SNAPSHOTS_MONGO_URL)
own_url="mongodb://snapshots:$(cat /secrets/mongo/snapshots_password)@mongo:27017/?replicaSet=rs0&authSource=admin"

# A database whose contacts were erased needs the same key for ever.
generate /secrets/worker/generated_erasure_key
generate_signing_key /secrets/worker/erasure.pem
erasure_key=$(given SNAPSHOTS_ERASURE_KEY)

store /secrets/redis/password "$redis_password"
store /secrets/redis/redis.conf "requirepass $redis_password"
for process in worker api flower; do
    store "/secrets/$process/SNAPSHOTS_REDIS_URL" "redis://:$redis_password@redis:6379/0"
    store "/secrets/$process/SNAPSHOTS_MONGO_URL" "${mongo_url:-$own_url}"
    store "/secrets/$process/SNAPSHOTS_ERASURE_KEY" "${erasure_key:-$(cat /secrets/worker/generated_erasure_key)}"
done
store /secrets/api/erasure.pem "$(cat /secrets/worker/erasure.pem)"
for process in worker api; do
    store "/secrets/$process/SNAPSHOTS_ERASURE_SIGNING_KEY" /run/secrets/erasure.pem
done
store /secrets/api/SNAPSHOTS_JWT_SECRET "$(given SNAPSHOTS_JWT_SECRET)"
for name in FLOWER_BASIC_AUTH FLOWER_OAUTH2_SECRET FLOWER_COOKIE_SECRET; do
    store "/secrets/flower/$name" "$(given "$name")"
done

for directory in /data/mongo /data/redis /secrets/mongo /secrets/redis; do
    own "$SERVERS" "$directory"
done
for process in worker api flower; do
    own "$OURS" "/secrets/$process"
done
own "$OURS" /data/exports
