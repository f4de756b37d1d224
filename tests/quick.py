"""What JAX and XLA are told so that the many small programs of tests compile fast; goldens are compared without it."""

import importlib.metadata
import platform

_X86 = platform.machine() in ("x86_64", "AMD64")
# Later versions have no older way, and end at a flag that they do not know.
_OLD_LOOPS = _X86 and tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11)

# Each program in one piece: pytest's processes keep the cores busy.
FLAGS = "--xla_cpu_parallel_codegen_split_count=1"
if _X86:
    # Which product is rounded before it is added is up to what XLA puts in one loop; without instructions that do both
    # at once, as before AVX2, two programs of the same formulas give the same bits.
    FLAGS += " --xla_cpu_max_isa=AVX"
if _OLD_LOOPS:
    # XLA's older way of writing loops takes half the time where programs are many and what they compute is small.
    FLAGS += " --xla_cpu_use_fusion_emitters=false"

CACHE = "JAX_COMPILATION_CACHE_DIR"
ENVIRONMENT = {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
}
"""Compile fast rather than well, and keep every program: the next process, or the next ``jax.jit``, reads it."""
