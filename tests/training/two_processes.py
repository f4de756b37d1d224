"""One of two processes that save and restore together; started by ``test_two_processes.py``.

Arguments: number of the process, port, folder.
"""

import sys
from pathlib import Path

import jax

number, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=number)

import numpy as np  # noqa: E402 (jax.distributed comes first)

from jaxcolor.training.checkpoints import Checkpoints, Keep  # noqa: E402
from tests.training.test_checkpoints import SETTINGS, state  # noqa: E402

assert jax.process_count() == 2
with Checkpoints(folder, Keep(1, best="psnr")) as checkpoints:
    if checkpoints.latest() is not None:  # saved by one process
        assert checkpoints.restore(state(0), SETTINGS).variables["params"]["conv1_1"]["kernel"].max() == 7.0
    for step in range(1, 5):
        checkpoints.save(state(10 + step, value=float(step)), SETTINGS, {"psnr": -float(step)})
with Checkpoints(folder, Keep(1)) as checkpoints:
    assert checkpoints.steps() == [11, 14]
    restored = checkpoints.restore(state(0), SETTINGS)
assert int(restored.step) == 14
assert isinstance(restored.variables["params"]["conv1_1"]["kernel"], np.ndarray)
assert restored.variables["params"]["conv1_1"]["kernel"].min() == 4.0
jax.distributed.shutdown()
print(f"process {number} is done")
