#!/bin/sh
# After the files are gone. To remove the package keeps settings and messages; to
# purge it, which Debian alone knows, takes them away, and the user with them.
set -e
if [ "$1" = purge ]; then
	rm -rf /var/lib/herald /etc/herald
	rm -f /etc/systemd/system/multi-user.target.wants/herald.service
	if getent passwd herald >/dev/null; then userdel herald || true; fi
	if getent group herald >/dev/null; then groupdel herald || true; fi
fi
[ ! -d /run/systemd/system ] || systemctl daemon-reload || true
