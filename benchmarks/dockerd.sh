#!/bin/sh
# A dockerd for the comparison, apart from anything else on the machine: its own data, socket and network namespace, so that
# the host's firewall, bridges and other engines are not touched. Needs root and Debian's docker.io.
#
#   sh benchmarks/dockerd.sh install             installs docker.io where it is missing, without starting its service
#   sh benchmarks/dockerd.sh start DIRECTORY     prints the DOCKER_HOST to use
#   sh benchmarks/dockerd.sh stop DIRECTORY      ends it and removes DIRECTORY
set -eu

PATH="$PATH:/usr/sbin:/sbin"
command="${1:-}"
directory="${2:-}"

install() {
    command -v dockerd > /dev/null && return
    sh "$(dirname "$0")/../.ci/packages" docker.io iptables iproute2=ip
}

start() {
    mkdir -p "$directory"
    echo '{}' > "$directory/daemon.json"
    unshare --net sh -c '
        ip link set lo up
        exec dockerd --data-root "$0/data" --exec-root "$0/exec" --pidfile "$0/pid" -H "unix://$0/docker.sock" \
            --config-file "$0/daemon.json"' "$directory" > "$directory/log" 2>&1 &
    waited=0
    until [ -S "$directory/docker.sock" ] && DOCKER_HOST="unix://$directory/docker.sock" docker version > /dev/null 2>&1; do
        waited=$((waited + 1))
        if [ "$waited" -gt 150 ]; then
            tail "$directory/log" >&2
            exit 1
        fi
        sleep 0.2
    done
    echo "unix://$directory/docker.sock"
}

stop() {
    if [ -f "$directory/pid" ]; then
        pid="$(cat "$directory/pid")"
        kill "$pid" 2> /dev/null || true
        # It removes the file at its end; where nobody reaps it, it stays a zombie that can be signalled.
        while [ -f "$directory/pid" ] && kill -0 "$pid" 2> /dev/null; do
            sleep 0.1
        done
    fi
    # What is mounted below goes first, so that removing the directory cannot reach through it.
    awk -v below="$directory/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r point; do
        umount -l "$point"
    done
    rm -rf --one-file-system "$directory"
}

case "$command" in
    install)
        install
        ;;
    start | stop)
        [ -n "$directory" ] || { echo "usage: dockerd.sh $command DIRECTORY" >&2; exit 2; }
        "$command"
        ;;
    *)
        echo "usage: dockerd.sh install | start DIRECTORY | stop DIRECTORY" >&2
        exit 2
        ;;
esac
