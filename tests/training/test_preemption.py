from __future__ import annotations

import os
import signal
import threading

import pytest

from jaxcolor.runtime.errors import StoppedError
from jaxcolor.training.preemption import stop_requests


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_a_signal_is_noted_and_obeyed_later(number, status, capfd):
    before = signal.getsignal(number)
    with stop_requests() as stop:
        stop.obey("nowhere")
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert "once more to quit at once" in capfd.readouterr().err
        # The next one ends the program without going through Python, which may be compiling.
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        with pytest.raises(StoppedError, match="stopped in stage full after step 3; the same command resumes") as error:
            stop.obey("in stage full after step 3")
        assert error.value.status == status
    assert signal.getsignal(number) is before


def test_other_threads_leave_signals_alone():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with stop_requests() as stop:
            seen.append((signal.getsignal(signal.SIGINT), bool(stop)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False)]
