"""A script without a main guard, which its worker processes would run again: refused by name, before the lock."""

import multiprocessing
from pathlib import Path

import pytest

from jaxcolor.config import Config, DataConfig
from jaxcolor.data.loader import eval_batches
from jaxcolor.data.sources.registry import make_source
from jaxcolor.evaluation.run import evaluate_files
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.owner import owned_folder
from jaxcolor.training import train

DATA = DataConfig(source="scenes", workers=1)


def test_work_is_refused_while_a_worker_imports_the_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source(DATA, 16)
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    works = (
        lambda: train.train(Config(data=DATA), tmp_path),
        lambda: evaluate_files(Config(data=DATA), None, tmp_path),
        lambda: eval_batches(source, DATA, side=16, batch_size=2),
    )
    with owned_folder(tmp_path, "--workdir"):  # as the script itself does
        for work in works:
            with pytest.raises(UserError, match=r"data\.workers: .*below `if __name__ == \"__main__\":`"):
                work()
