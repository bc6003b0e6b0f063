# Ends what a process of the harness has started once that process is no more, however it went.
# Called with the folder to remove at the end. Reads lines "+ GROUP" and "- GROUP"; end of file means: the parent is gone.
trap '' HUP INT TERM
folder=$1
groups=
while read -r verb group; do
  case $verb in
  +) groups="$groups $group" ;;
  -)
    kept=
    for one in $groups; do [ "$one" = "$group" ] || kept="$kept $one"; done
    groups=$kept
    ;;
  esac
done
# A stopped process sees no signal but KILL until it goes on.
for one in $groups; do kill -QUIT "-$one"; kill -CONT "-$one"; done 2>/dev/null
# Two seconds for Postgres, whose own children leave its process group and follow it only when it ends by itself.
tries=0
while [ "$tries" -lt 20 ]; do
  alive=
  for one in $groups; do kill -0 "-$one" 2>/dev/null && alive=yes; done
  [ -n "$alive" ] || break
  tries=$((tries + 1))
  sleep 0.1
done
for one in $groups; do kill -KILL "-$one"; done 2>/dev/null
rm -rf -- "$folder"
