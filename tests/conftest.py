"""Eight forced host devices on CPU that compile fast, set before anything imports JAX."""

import os

from absl import flags

from tests import quick

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 {quick.FLAGS}"
os.environ["JAX_PLATFORMS"] = "cpu"

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
