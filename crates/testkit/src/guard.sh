# Keeps a PostgreSQL server for a test process, and takes it down with it: the other end of standard input is held by
# that process alone, and closes however it ends. $1: a directory of our own; $2: where PostgreSQL's programs are.
# Commands: "stop SIGNAL" and "start"; each is answered with a line.
trap '' HUP INT TERM

start() {
    # Durability as in production; what else costs time in a test is small.
    "$2/postgres" -D "$1/data" -k "$1" -c listen_addresses= -c shared_buffers=32MB -c max_connections=200 \
        -c autovacuum=off </dev/null >>"$1/log" 2>&1 &
    server=$!
}

stop() {
    kill -s "$1" "$server" && wait "$server"
}

"$2/initdb" -D "$1/data" -U postroom -A trust -E UTF8 --locale=C --no-sync >"$1/log" 2>&1 || exit
start "$@"
echo "started $server"
while read -r command signal; do
    case $command in
    stop) stop "$signal" ;;
    start) start "$@" ;;
    esac
    echo "done $server"
done
stop INT
cd / && rm -rf "$1"
