#!/bin/sh
# PostgreSQL refuses to run as root. Where root runs make, and no user that the embedded PostgreSQL could
# run as is there, add the system user `outdial`: no login, no home, no rights of its own. The server never
# does this by itself. Name another user in OUTDIAL_PG_USER, or a server of your own in OUTDIAL_DATABASE,
# and nothing is added.
set -eu

[ "$(id -u)" = 0 ] || exit 0
[ -z "${OUTDIAL_PG_USER:-}${OUTDIAL_DATABASE:-}" ] || exit 0
for user in outdial postgres; do
    if id "$user" >/dev/null 2>&1; then exit 0; fi
done
if ! command -v useradd >/dev/null 2>&1; then
    echo "make: PostgreSQL does not run as root: run make as another user, or name one in OUTDIAL_PG_USER" >&2
    exit 1
fi
useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin outdial
echo "make: added the system user outdial, because PostgreSQL does not run as root"
