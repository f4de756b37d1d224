"""Eight forced host devices on CPU that compile fast, set before anything imports JAX."""

import os
import platform

from absl import flags

# Each program in one piece: pytest's processes keep the cores busy.
QUICK = "--xla_cpu_parallel_codegen_split_count=1"
if platform.machine() in ("x86_64", "AMD64"):
    # XLA's older way of writing loops takes half the time where programs are many and what they compute is small. Which
    # product is rounded before it is added is then up to what XLA puts in one loop; without instructions that do both
    # at once, as before AVX2, two programs of the same formulas still give the same bits.
    QUICK += " --xla_cpu_use_fusion_emitters=false --xla_cpu_max_isa=AVX"

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 {QUICK}"
os.environ["JAX_PLATFORMS"] = "cpu"

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
