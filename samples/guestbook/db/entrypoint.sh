#!/bin/sh
# Make the database on the first start, then become the server, as the user `postgres`.
set -eu

volume=/var/lib/postgresql/data
export PGDATA="$volume/cluster"

if [ "$(id -u)" = 0 ]; then
    chown postgres:postgres "$volume"
    chmod 700 "$volume"
    install -d -o postgres -g postgres -m 2775 /var/run/postgresql
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

if [ ! -d "$PGDATA" ]; then
    : "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD to the password of the database user}"
    user="${POSTGRES_USER:-postgres}"
    # Made beside its place and renamed when complete: a start that is killed half-way is begun again.
    new="$volume/cluster.new"
    rm -rf "$new"
    umask 077
    printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
    initdb --pgdata="$new" --username="$user" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --locale=C.UTF-8
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$new/pg_hba.conf"
    if [ "${POSTGRES_DB:-postgres}" != postgres ]; then
        printf 'CREATE DATABASE "%s";\n' "$POSTGRES_DB" | postgres --single -D "$new" postgres > /dev/null
    fi
    mv "$new" "$PGDATA"
fi

exec "$@" -c listen_addresses='*'
