#!/bin/bash
# Three jobs, each after the one before it has succeeded: training, twice as long a training, a summary.
# Run it where `sbatch` is: on a node of Slurm, or inside a job.

set -euo pipefail

first=$(sbatch --parsable --job-name=short --time=10 \
    --wrap "python3 examples/train.py --steps 100 --checkpoint checkpoints/chain")
second=$(sbatch --parsable --job-name=long --time=10 --dependency="afterok:$first" \
    --wrap "python3 examples/train.py --steps 200 --checkpoint checkpoints/chain")
sbatch --job-name=summary --time=1 --dependency="afterok:$second" --kill-on-invalid-dep=yes \
    --wrap "tail -n 1 checkpoints/chain/loss.csv"
