#!/usr/bin/env bash
# Start a private SLURM on this machine, as an ordinary user:
#   up.sh FOLDER && . FOLDER/env.sh        ...and later: down.sh FOLDER
# NODES (default 1) are slurmd processes called n1, n2, ..., with two stand-ins for GPUs each.
# There is no database of jobs. Everything lies in FOLDER. Exit status 77: SLURM is not installed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mkdir -p "$1" && cd "$1" && pwd)
nodes=${NODES:-1}
PATH=$PATH:/usr/sbin

for program in munged slurmctld slurmd sbatch; do
  if ! command -v "$program" > /dev/null; then
    echo "$program is not installed (Debian: apt-get install slurm-wlm munge)" >&2
    exit 77
  fi
done
trap '"$here/down.sh" "$folder"' ERR

# The first of a row of ports that are free now: the controller's, one per node.
port=$(python3 - "$nodes" <<'PYTHON'
import socket, sys
count = int(sys.argv[1]) + 1
for first in range(16800, 32000, 20):
    try:
        for number in range(first, first + count):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("", number))
    except OSError:
        continue
    print(first)
    break
PYTHON
)

mkdir -p "$folder"/{state,log,devices,bin}
# munged refuses keys that others can read, and folders that others can write.
install -d -m 700 "$folder/key"
install -d -m 711 "$folder/munge"
(umask 077; head -c 128 /dev/urandom > "$folder/key/munge.key")
socket=$folder/munge/socket
munged --force --socket="$socket" --key-file="$folder/key/munge.key" \
  --pid-file="$folder/munge/munged.pid" --log-file="$folder/munge/munged.log" \
  --seed-file="$folder/munge/seed"

export SLURM_CONF=$folder/slurm.conf
user=$(id -un) host=$(hostname -s) names=n[1-$nodes]
cat > "$SLURM_CONF" <<CONF
ClusterName=private
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool-%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/log/slurmctld.log
SlurmdLogFile=$folder/log/slurmd-%n.log
# No cgroups, as in a container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
# Nodes have the CPUs and the memory that this file says, whatever the machine has.
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=500
SchedulerParameters=sched_interval=1,bf_interval=1,batch_sched_delay=0
MinJobAge=3600
# A node that a busy machine keeps from answering is not lost; one that is back is used again.
SlurmdTimeout=300
ReturnToService=2
KillWait=2
AccountingStorageType=accounting_storage/none
CONF
# A device has to be a character device, and CUDA_VISIBLE_DEVICES is set only with the flag.
for number in 0 1; do ln -sfn /dev/null "$folder/devices/gpu$number"; done
echo "GresTypes=gpu" >> "$SLURM_CONF"
echo "NodeName=$names Name=gpu File=$folder/devices/gpu[0-1] Flags=nvidia_gpu_env" \
  > "$folder/gres.conf"
for number in $(seq "$nodes"); do
  echo "NodeName=n$number NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + number))" \
    "CPUs=4 RealMemory=64000 Gres=gpu:2" >> "$SLURM_CONF"
done
cat >> "$SLURM_CONF" <<CONF
PartitionName=batch Nodes=$names Default=YES MaxTime=1-00:00:00 State=UP
CONF

# Snakemake's plugin takes SLURM_CONF from the srun inside a job; a real cluster does not need it.
printf '#!/bin/sh\nexport SLURM_CONF=%q\nexec %q "$@"\n' "$SLURM_CONF" "$(command -v srun)" \
  > "$folder/bin/srun"
chmod +x "$folder/bin/srun"
printf 'export SLURM_CONF=%q PATH=%q:$PATH\n' "$SLURM_CONF" "$folder/bin" > "$folder/env.sh"

slurmctld -c
for number in $(seq "$nodes"); do slurmd -N "n$number"; done
for _ in $(seq 120); do
  [ "$(sinfo --noheader --Node --partition batch --format %T | grep -cx idle)" = "$nodes" ] && exit 0
  sleep 0.5
done 2> /dev/null
echo "SLURM did not start: see $folder/log" >&2
"$here/down.sh" "$folder"
exit 1
