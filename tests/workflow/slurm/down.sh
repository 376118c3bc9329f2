#!/usr/bin/env bash
# End the daemons that up.sh started in a folder: down.sh FOLDER
for file in "$1"/{slurmd-*,slurmctld,munge/munged}.pid; do
  [ -s "$file" ] || continue
  pid=$(cat "$file")
  program=$(basename "$file" .pid)
  # The number may belong to another program by now.
  [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = "${program%%-*}" ] && kill "$pid"
done
exit 0
