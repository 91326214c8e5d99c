"""The four shell programs of a sandbox, in the order they run: keeper, set-up, supervisor, prelude of the shell.

The keeper runs on the host as first process of the outermost namespace. It ends, and everything with it, when the
container ends or when the pipe that its owner holds open is closed, however the owner died. Set-up runs as root of a
user namespace inside the read-only container. It stacks a memory-bound writable layer over the image, unpacks the
instance layer, gives up every privilege and becomes the supervisor, which is process 1 and so cannot be killed from
inside. The supervisor keeps one shell running, whose commands arrive on its standard input. Standard output of the
container carries the output of commands, standard error the protocol.
"""

# Arguments: file descriptor of the owner's pipe, then the command that starts the container.
KEEPER = r"""
read -r _ <&"$1" &
eval "exec $1<&-"
shift
"$@" <&0 &
wait -n
kill -KILL $! 2>/dev/null
wait $!
"""

# Arguments: file descriptor of the instance layer or "none", disk in MB, inodes, pid_max or "", "writable" or
# "read-only" for the system outside /testbed and /tmp, the supervisor, its arguments.
SETUP = r"""
set -eu
layer=$1 disk=$2 inodes=$3 pid_max=$4 system=$5 supervisor=$6; shift 6
if [ -n "$pid_max" ]; then echo "$pid_max" >/proc/sys/kernel/pid_max; fi
umask 022
mount --make-private /  # Apptainer's root is unbindable, which overlayfs refuses as a lower layer
mount -t tmpfs -o "size=${disk}m,nr_inodes=$inodes,mode=0755" sandbox /tmp
cd /tmp
mkdir -m 0755 upper work root layer layer/testbed /dev/swedag
mkdir -m 1777 tmp shm
if [ "$layer" != none ]; then
    command -v unsquashfs >/dev/null || { echo "the environment image has no unsquashfs (squashfs-tools)" >&2; exit 1; }
    unsquashfs -quiet -no-progress -processors 1 -force -dest layer "/proc/self/fd/$layer" >&2
    eval "exec $layer<&-"
fi
writable=overlay home=/root lower=/
if [ "$layer" != none ] && [ "$(ls -A layer)" != testbed ]; then lower=layer:/; fi  # it has files of the system, too
layers=lowerdir=$lower,upperdir=upper,workdir=work,userxattr
if [ "$system" = writable ] && mount -t overlay -o "$layers" none root 2>/dev/null; then
    mkdir -p root/dev root/proc root/tmp root/testbed root/root
else  # as asked for, or a kernel before 5.11, which stacks nothing in a user namespace
    [ "$lower" = / ] || { echo "the layer has files outside /testbed: the system must be writable" >&2; exit 1; }
    writable=folders home=/tmp
    mount --bind -o ro / root
fi
if [ "$layer" != none ]; then echo "/tmp/layer/testbed /tmp/root/testbed none bind"; fi >fstab
cat >>fstab <<'MOUNTS'
/tmp/tmp /tmp/root/tmp none bind
/dev /tmp/root/dev none rbind,ro
/tmp/shm /tmp/root/dev/shm none bind
kept /tmp/root/dev/swedag tmpfs size=8m,mode=0700
/proc /tmp/root/proc none rbind,ro
MOUNTS
mount --all --fstab fstab
rm fstab
cd /
# A network namespace of its own has a loopback device that is down. Without capabilities in the bounding set nothing
# inside can mount, remount or make namespaces, although it is user 0.
exec unshare --net --cgroup --root=/tmp/root --wd=/testbed \
    setpriv --no-new-privs --bounding-set=-all --inh-caps=-all \
    env -i PATH="$PATH" HOME="$home" USER=root LANG=C.UTF-8 TERM=dumb PAGER=cat GIT_PAGER=cat \
        PYTHONDONTWRITEBYTECODE=1 \
    bash --noprofile --norc -c "$supervisor" supervisor "$writable" "$@"
"""

# Arguments: kind of writable layer, key of the protocol, then ulimit's: file size (kB), address space (kB), processes.
SUPERVISE = r"""
writable=$1 key=$2
printf '\n%s writable %s\n' "$key" "$writable" >&2
ulimit -c 0
ulimit -f "$3"
ulimit -v "$4"
ulimit -u "$5" 2>/dev/null
while :; do
    bash --noprofile --norc
    printf '\n%s ended %s\n' "$key" "$?" >&2
    line=
    until [ "$line" = "$key again" ] || [ "$line" = "$key all" ]; do IFS= read -r line || exit 0; done
    if [ "$line" = "$key all" ]; then while kill -KILL -1 2>/dev/null; do :; done; fi
done
"""

# Sent to every new shell. {key} and {writable} are the protocol's; the state is that of the last command that ended.
PRELUDE = r"""
exec 200>&1
__swedag_end() {{
    {{ declare -p; declare -f; alias -p; shopt -p; umask -p; printf 'cd -- %q\n' "$PWD"; }} \
        >/dev/swedag/state 2>/dev/null
    builtin printf '\n{key} done %s %s\n' "$2" "$1" >&2
    return "$1"
}}
if [ -e /dev/swedag/state ]; then . /dev/swedag/state >/dev/null 2>&1; fi
printf '\n{key} ready %s\n' "$BASHPID" >&2
"""
CLEAN_PRELUDE = "rm -f /dev/swedag/state\n" + PRELUDE
