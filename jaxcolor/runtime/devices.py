"""Whether JAX has a device to compute on."""

from __future__ import annotations

import os

from jaxcolor.runtime.errors import UserError, one_line


def check_devices() -> None:
    """Checks that JAX finds the devices that it is told to use.

    Raises:
      UserError: it finds none: ``JAX_PLATFORMS`` names what this machine or this installation does not have.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # by the version of JAX
        wanted = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(
            f"JAX_PLATFORMS={wanted}: JAX has no such device here; install it (pip install 'jaxcolor[cuda]', "
            f"'jaxcolor[tpu]'), or unset JAX_PLATFORMS to compute on what there is ({one_line(error, 200)})"
        ) from error
