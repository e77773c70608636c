#!/bin/sh
# Before the files go. Debian says "remove", or "upgrade"; RPM says how many
# versions remain. On Debian the service stays enabled, for who installs it again.
set -e
command -v systemctl >/dev/null || exit 0
case "$1" in
remove|0)
	[ ! -d /run/systemd/system ] || systemctl stop herald.service || true
	[ "$1" = remove ] || systemctl disable herald.service >/dev/null 2>&1 || true
	;;
esac
