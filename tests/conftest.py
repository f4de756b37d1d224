"""Eight forced host devices on CPU that compile fast, and each program once, set before anything imports JAX."""

import atexit
import os
import shutil
import tempfile

from absl import flags

from tests import quick

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 {quick.FLAGS}"
os.environ["JAX_PLATFORMS"] = "cpu"
if quick.CACHE not in os.environ:  # the workers of pytest-xdist, and programs that tests start, find it there
    os.environ[quick.CACHE] = tempfile.mkdtemp(prefix="jaxcolor_compiled_")
    atexit.register(shutil.rmtree, os.environ[quick.CACHE], ignore_errors=True)
os.environ |= quick.ENVIRONMENT

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
