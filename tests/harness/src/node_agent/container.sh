# Becomes the program of a container, in a file system of its own: what the machine has, with an empty /run and /tmp, and
# with the container's volumes at their paths. Runs in a fresh mount namespace, so nothing of this is seen outside of it.
#   ROOT ro|rw DIRECTORY COUNT (SOURCE PATH){COUNT} PROGRAM ARGUMENT...
set -eu
# Whatever goes wrong before the program is there: 125, which no program of ours answers by itself.
trap 'exit 125' EXIT
container_path=$PATH
PATH=/usr/sbin:/usr/bin:/sbin:/bin
root=$1 access=$2 directory=$3 count=$4
shift 4

# place SOURCE TARGET: makes the target, and has it show the source.
place() {
  if [ -d "$1" ]; then mkdir -p "$2"; else touch "$2"; fi
  mount --rbind "$1" "$2"
}

# mirror FOLDER: the folder in the new root becomes a fresh one that shows each entry of the machine's.
ours=
mirrored=
mirror() {
  mount -t tmpfs -o mode=755 tmpfs "$root$1"
  ours="$ours $(stat -c %d "$root$1") "
  mirrored="$root$1 $mirrored"
  for entry in "$1"/* "$1"/.[!.]*; do
    entry=${entry#/}
    entry=/${entry#/}
    if [ -L "$entry" ]; then
      cp -P "$entry" "$root$entry"
    elif [ "$entry" = /run ] || [ "$entry" = /tmp ]; then
      mkdir -m 1777 "$root$entry"
    elif [ -e "$entry" ]; then
      place "$entry" "$root$entry"
      # What the machine has mounted further below stays as it is, and so do its devices.
      if [ "$access" = ro ] && [ "$entry" != /proc ]; then mount -o remount,bind,ro "$root$entry"; fi
    fi
  done
}

mirror ""
while [ "$count" -gt 0 ]; do
  source=$1
  # The new root has the same links as the machine; /var/run is one.
  path=$(realpath -m "$2")
  shift 2
  count=$((count - 1))
  if [ ! -e "$root$path" ]; then
    # The nearest folder that is there: one of the machine's must not be written to, so it is mirrored first.
    there=${path%/*}
    while [ ! -e "$root$there" ]; do there=${there%/*}; done
    case $ours in
    *" $(stat -c %d "$root$there") "*) ;;
    *) mirror "$there" ;;
    esac
    mkdir -p "$root${path%/*}"
  fi
  place "$source" "$root$path"
done

mkdir -p "$root$directory" 2>/dev/null || true
if [ "$access" = ro ]; then
  for folder in $mirrored; do mount -o remount,bind,ro "$folder"; done
fi
chroot=$(command -v chroot)
PATH=$container_path
trap - EXIT
exec "$chroot" "$root" /bin/sh -c 'cd "$1" && shift && exec "$@"' container "$directory" "$@"
