#!/bin/bash
# Cross-validate on SLURM, a job for each fold, each phase after all folds of the one before; run it again to go on where it stopped:
#     bash docs/examples/slurm_cv.sh BUSBRA --data_root data/BUSBRA
# JOB is what each job asks for, FOLDS the manifest's number of folds:
#     JOB="--gpus=1 --cpus-per-task=8 --partition=long" FOLDS=10 bash docs/examples/slurm_cv.sh BUSBRA --data_root data/BUSBRA --manifest BUSBRA_10.json
set -euo pipefail

read -ra resources <<< "${JOB:---gpus=1 --cpus-per-task=8}"
study=$(printf '%q ' ultrarefiner cv "$@")
after=()
for phase in phase1 phase2 phase3; do
    job=$(sbatch --parsable "${resources[@]}" "${after[@]}" --job-name "$phase" --array="0-$((${FOLDS:-5} - 1))" \
        --wrap "$study --phases $phase --only_folds \$SLURM_ARRAY_TASK_ID")
    after=(--dependency="afterok:$job" --kill-on-invalid-dep=yes)
done
sbatch "${resources[@]}" "${after[@]}" --job-name table --wrap "$study"
