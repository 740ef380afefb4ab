#!/bin/bash
# Train one fold of a phase on all GPUs of a job's nodes; submit it again to go on where it stopped:
#     sbatch docs/examples/slurm_train.sh phase1 --data_root data/BUSBRA
#SBATCH --job-name=ultrarefiner
#SBATCH --nodes=1 --ntasks-per-node=1
#SBATCH --gpus-per-node=4 --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180
set -euo pipefail

phase=$1
shift
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# --signal ends the training three minutes before the time does, after its last complete epoch was kept.
srun torchrun \
    --nnodes "$SLURM_JOB_NUM_NODES" --nproc_per_node "${SLURM_GPUS_ON_NODE:-1}" \
    --rdzv_id "$SLURM_JOB_ID" --rdzv_backend c10d --rdzv_endpoint "$head:29500" \
    -m monai.bundle run \
    --config_file "['bundles/$phase/configs/train.json','bundles/$phase/configs/multi_gpu_train.json']" \
    --resume true "$@"
