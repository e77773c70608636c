#!/bin/sh
# Makes the passwords of this installation, unless they are there already. They
# lie in the volume "secrets":
#
#   nats.conf          included by nats.conf: the one user of NATS
#   nats-url           HERALD_NATS_URL_FILE of the services
#   grafana-password   of Grafana's user admin
#   alert-webhook      where Alertmanager sends alerts: HERALD_ALERT_WEBHOOK
#
# Runs as root of group 65532, which is Herald's and NATS's, with CHOWN as its
# only capability.
set -eu
umask 027

password() { # 256 random bits, in hexadecimal
    head -c 32 /dev/urandom | od -An -v -t x1 | tr -d ' \n'
}

# install FILE: standard input becomes FILE, whole or not at all.
install() {
    cat >"/run/herald/$1.new"
    mv "/run/herald/$1.new" "/run/herald/$1"
}

if ! [ -s /run/herald/nats-url ]; then
    nats=$(password)
    echo "authorization { user: herald, password: \"$nats\" }" | install nats.conf
    echo "nats://herald:$nats@nats:4222" | install nats-url # last: it says that both are there
fi

if ! [ -s /run/herald/grafana-password ]; then
    grafana=$(password)
    printf %s "$grafana" | install grafana-password
    chown 472 /run/herald/grafana-password # Grafana's user
    echo "Grafana's password is shown this once: user admin, password $grafana"
fi

# At each start, since it is a setting. Nobody listens at the default: alerts are
# shown by Alertmanager's page alone then.
printf %s "${HERALD_ALERT_WEBHOOK:-http://127.0.0.1:9/}" | install alert-webhook

# Volumes are made as root's. Grafana must be able to pass through the first.
chmod 751 /run/herald
chown 65532:65532 /data
