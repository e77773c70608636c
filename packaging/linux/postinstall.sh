#!/bin/sh
# After the files are there. Debian says "configure" and the version that was
# configured last; RPM says 1 for the first version and 2 for a further one.
set -e
getent group herald >/dev/null || groupadd --system herald
getent passwd herald >/dev/null ||
	useradd --system --gid herald --home-dir /var/lib/herald --no-create-home --shell /usr/sbin/nologin herald
install -d -o herald -g herald -m 0700 /var/lib/herald

if [ "$1" = configure ] && [ -z "$2" ] || [ "$1" = 1 ]; then
	echo "Herald's first start shows its API key once: journalctl -u herald"
fi
command -v systemctl >/dev/null || exit 0
[ ! -d /run/systemd/system ] || systemctl daemon-reload
case "$1" in
configure)
	# Debian starts a service that it installs. An administrator's `systemctl disable`
	# survives upgrades, and deb-systemd-invoke heeds policy-rc.d.
	[ -n "$2" ] || systemctl enable herald.service >/dev/null 2>&1 || true
	[ ! -d /run/systemd/system ] || deb-systemd-invoke restart herald.service || true
	;;
1)
	echo "Start it, now and with the system: systemctl enable --now herald"
	;;
*)
	[ ! -d /run/systemd/system ] || systemctl try-restart herald.service || true
	;;
esac
