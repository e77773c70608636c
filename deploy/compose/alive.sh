#!/bin/sh
# Ends with 1 if a restart of this NATS server helps, with 2 if it does not
# answer, else with 0.
#
# nats-server keeps the first write error of a stream for as long as it runs,
# and does not answer publishers from then on; its plain /healthz names the
# stream. So a disk that was full once ends publishing until the server is
# restarted. But before the disk takes something again a restart is of no use:
# until then the server goes on delivering what it has. Nor does one help a
# server that catches up with the others, or has lost them.
health=$(printf 'GET /healthz HTTP/1.0\r\n\r\n' | nc -w 4 127.0.0.1 "${MONITOR:-8222}")
case "$health" in
*' 200 OK'*) exit 0 ;;
*'write error'* | *'not enabled'* | *'could not be recovered'*) ;;
HTTP/*) exit 0 ;;
*) exit 2 ;;
esac
probe="${DATA:-/data}/.room"
head -c 1048576 /dev/zero 2>/dev/null >"$probe"
full=$?
rm -f "$probe"
[ "$full" -ne 0 ]
