"""Scripts whose work a worker process would repeat."""

from __future__ import annotations

import multiprocessing

from jaxcolor.runtime.errors import UserError


def check_main_guard() -> None:
    """Checks that this is no worker process that is still importing the script that started it.

    Worker processes (``data.workers``) import the script; what it does at the top of the file they would do again.

    Raises:
      UserError: it is one.
    """
    # What multiprocessing itself asks before it starts a process, too late for us.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(
            "data.workers: a worker process imports the script that started it, and the script starts its work again; "
            'put that work below `if __name__ == "__main__":`'
        )
