#!/bin/sh
# Programs of the system that some tests talk to. Installed with apt when root runs this or OUTDIAL_APT=1;
# otherwise named, and the tests that need them are left out.
set -eu

missing=
for program in pgbouncer:pgbouncer sipp:sip-tester kamailio:kamailio+kamailio-tls-modules baresip:baresip-core \
    espeak-ng:espeak-ng nginx:nginx-light haproxy:haproxy faketime:faketime; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${program%%:*}" >/dev/null 2>&1 ||
        missing="$missing $(echo "${program#*:}" | tr + ' ')"
done
[ -n "$missing" ] || exit 0
if ! command -v apt-get >/dev/null 2>&1 || { [ "$(id -u)" != 0 ] && [ "${OUTDIAL_APT:-}" != 1 ]; }; then
    echo "make: left out, because they are not installed:$missing (OUTDIAL_APT=1 installs them with apt)"
    exit 0
fi
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
install() { $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null 2>&1; }
# The tests start their own; what the package starts is stopped again.
if install || { $sudo apt-get update -qq >/dev/null 2>&1 && install; }; then
    echo "make: installed with apt:$missing"
    for program in pgbouncer kamailio nginx haproxy; do $sudo systemctl disable --now "$program" >/dev/null 2>&1 || true; done
else
    echo "make: left out, because apt could not install them:$missing"
fi
