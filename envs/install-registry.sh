#!/usr/bin/env bash
# A registry for the tests of published images: `docker-registry` of Debian, unpacked into .registry/ of this checkout.
#
# In:  nothing.
# Out: silence and exit 0 when there is one on PATH, or now in .registry/bin; on machines without root and apt-get
#      a word about that, since the tests that need it say themselves that they were skipped.
set -euo pipefail
export LC_ALL=C

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
prefix=$root/.registry
if command -v docker-registry >/dev/null || [[ -x $prefix/bin/docker-registry ]]; then exit 0; fi
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "install-registry: no docker-registry on PATH; its tests will be skipped" >&2
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 15 "$work/log" >&2; echo "install-registry: failed: $*" >&2; exit 1; }; }
cd "$work"
fetch=(apt-get -o APT::Sandbox::User=root download docker-registry)
if ! "${fetch[@]}" >/dev/null 2>&1; then  # the lists of packages are absent or old
    quietly apt-get -qq update
    quietly "${fetch[@]}"
fi
quietly dpkg-deb -x docker-registry_*.deb unpacked
mkdir -p "$prefix/bin"
mv unpacked/usr/bin/docker-registry "$prefix/bin/"
