#!/bin/sh
# Brings every container of docker-compose.yml to the images and settings that
# there are now, one after the other, while messages flow: a new ingest or
# gateway is healthy, and known to the balancer, before an old one is asked to
# leave. Build or pull first:
#
#   docker compose build && deploy/compose/upgrade.sh
#
# NATS, the logger and the console are one each: while they restart, publishers wait and
# messages for the log wait in the stream. The balancer reads its configuration
# again without cutting anybody off; a new image of it is put in place last, and
# cuts its connections once.
set -eu
cd "$(dirname "$0")/../.."

docker compose up -d --no-deps --wait nats
docker compose up -d --no-deps --wait logger
docker compose up -d --no-deps --wait admin

for service in ingest gateway; do
    old=$(docker compose ps -q "$service")
    count=$(printf '%s\n' "$old" | wc -l)
    for container in $old; do
        docker compose up -d --no-deps --no-recreate --wait --scale "$service=$((count + 1))" "$service"
        sleep 3 # the balancer asks for addresses, and then for health, once a second each
        docker stop --time 30 "$container" >/dev/null
        docker rm "$container" >/dev/null
        echo "$service: $container has been replaced"
    done
done

docker compose kill -s USR2 balancer
docker compose up -d --no-deps --wait balancer prometheus grafana
