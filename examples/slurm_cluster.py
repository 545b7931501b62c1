"""Workers for a campaign on a SLURM cluster: starts them through dask-jobqueue, and says the scheduler's address.

    pip install 'mdls_cosim[cluster]'
    python examples/slurm_cluster.py --partition short --jobs 8 --cores 16 --hours 4

    mdls-cosim characterize examples/campaign.toml --out campaign.h5 --scheduler tcp://HOST:PORT

It runs until Ctrl-C; then the jobs end. `--scheduler` takes the printed address, on any machine that reaches it.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
from typing import Any

from dask_jobqueue.slurm import SLURMCluster


def main() -> None:
    parser = argparse.ArgumentParser(description="Workers for a campaign on a SLURM cluster.")
    parser.add_argument("--partition", help="SLURM partition; the cluster's default if absent")
    parser.add_argument("--account", help="SLURM account")
    parser.add_argument("--jobs", type=int, default=4, help="SLURM jobs")
    parser.add_argument("--cores", type=int, default=8, help="cores of a job, each with an ngspice of its own")
    parser.add_argument("--memory", default="16GB", help="of a job, shared by its cores")
    parser.add_argument("--hours", type=int, default=4, help="longest time of a job")
    options = parser.parse_args()
    if shutil.which("sbatch") is None:
        parser.error("this machine has no sbatch: run it where SLURM jobs can be submitted")
    cluster: Any = SLURMCluster(
        queue=options.partition,
        account=options.account,
        cores=options.cores,
        processes=options.cores,  # one thread each: an ngspice is a process, and its Python waits for it
        memory=options.memory,
        walltime=f"{options.hours:02d}:00:00",
        job_script_prologue=["export OMP_NUM_THREADS=1"],
    )
    with cluster:
        cluster.scale(jobs=options.jobs)
        print(f"mdls-cosim characterize PLAN.toml --out DATA.h5 --scheduler {cluster.scheduler_address}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
