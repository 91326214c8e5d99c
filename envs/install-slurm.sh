#!/usr/bin/env bash
# A Slurm for the tests of `--profile slurm`: Debian's packages, installed with no service started. The tests bring up
# a cluster of their own from them and take it down again (tests/slurm/cluster.py).
#
# In:  nothing.
# Out: silence and exit 0 when all programs are there; on machines without root and apt-get, or with a Slurm of their
#      own, a word about that, since the tests that need it say themselves that they were skipped.
set -euo pipefail
export LC_ALL=C DEBIAN_FRONTEND=noninteractive
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

complete() { command -v slurmctld slurmd slurmdbd sbatch sacct munged mariadbd >/dev/null; }
if complete; then exit 0; fi
if [[ -e /etc/slurm/slurm.conf ]] || command -v sbatch >/dev/null; then
    echo "install-slurm: this machine belongs to a Slurm already; the tests of the slurm profile will be skipped" >&2
    exit 0
fi
if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "install-slurm: no Slurm, and no root and apt-get to install one; its tests will be skipped" >&2
    exit 0
fi

work=$(mktemp -d)
policy=/usr/sbin/policy-rc.d # says to the packages whether they may start their services
[[ -e $policy ]] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && touch "$work/policy"; }
trap '[[ ! -e $work/policy ]] || rm -f "$policy"; rm -rf "$work"' EXIT
packages=(slurmctld slurmd slurmdbd slurm-client slurm-wlm-basic-plugins slurm-wlm-mysql-plugin munge mariadb-server)
install=(apt-get install -y -qq --no-install-recommends "${packages[@]}")
quietly() { "$@" >"$work/log" 2>&1 || { tail -n 15 "$work/log" >&2; echo "install-slurm: failed: $*" >&2; exit 1; }; }
if ! "${install[@]}" >/dev/null 2>&1; then # the lists of packages are absent or old
    quietly apt-get -qq update
    quietly "${install[@]}"
fi
complete || { echo "install-slurm: Debian's packages came without one of the programs" >&2; exit 1; }
