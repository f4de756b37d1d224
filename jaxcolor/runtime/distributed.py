"""Starting one of several processes that train or evaluate together (jax.distributed)."""

from __future__ import annotations

import math
import os
from typing import Any

from absl import flags

from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.rendezvous import meet

_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
"""Where srun and mpirun tell how many processes they started. (A batch script, which is one process, has SLURM_NTASKS.)
"""


class ProcessFlags:
    """The flags by which a process of several learns its place."""

    def __init__(self) -> None:
        self._address = flags.DEFINE_string(
            "coordinator", None, "HOST:PORT of the first of several processes, the same for all of them."
        )
        self._count = flags.DEFINE_integer("processes", None, "How many processes there are.", lower_bound=1)
        self._index = flags.DEFINE_integer("process", None, "Which of them this is, from 0.", lower_bound=0)

    def start(self, limit: float) -> None:
        """Join the other processes, if there are any; see ``start``."""
        start(self._address.value, self._count.value, self._index.value, limit)


def start(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None, limit: float = 300.0
) -> None:
    """Join the other processes, before anything touches JAX's devices.

    By the arguments; without them by what JAX finds in the environment: SLURM, Open MPI, and TPU pods, which need no
    setting at all. A process that is alone starts nothing.

    Args:
      coordinator: ``HOST:PORT`` of process 0.
      processes: how many there are.
      process: which one this is.
      limit: seconds to wait for the others. Where the arguments are given, lines say who is waited for meanwhile
        (``runtime.rendezvous``); in a cluster's environment the wait is JAX's own.

    Raises:
      UserError: only some of the arguments are given, they cannot be, or the other processes are not to be reached.
    """
    given = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    missing = [name for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise UserError(f"{', '.join(missing)} missing: give all of {', '.join(given)}, or none")
    if missing and not _in_a_cluster():
        return
    if processes is not None and process is not None and process >= processes:
        raise UserError(f"--process {process} of --processes {processes}: counted from 0, it must be less")
    if processes == 1:
        return
    arguments: dict[str, Any] = {"initialization_timeout": math.ceil(limit)}
    if coordinator is not None and processes is not None and process is not None:
        meet(coordinator, processes, process, limit)
        arguments |= {"coordinator_address": coordinator, "num_processes": processes, "process_id": process}

    import jax

    try:
        jax.distributed.initialize(**arguments)
    except (RuntimeError, ValueError) as error:
        where = coordinator or "the processes that the environment names"
        raise UserError(f"cannot join {where}: {' '.join(str(error).split())}") from error


def _in_a_cluster() -> bool:
    """Whether the environment says that there are several processes."""
    counts = [os.environ.get(name, "1") for name in _COUNTS]
    several = any(count.isdecimal() and int(count) > 1 for count in counts)
    # libtpu names the hosts of a pod's slice here, one host alone too.
    return several or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
