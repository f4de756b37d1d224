"""Code of the user's, configs and imported modules, that ends the program by ``sys.exit``."""

import sys

import pytest
from absl import flags
from ml_collections import config_flags

from jaxcolor.config import Config
from jaxcolor.runtime import program
from jaxcolor.runtime.errors import UserError
from jaxcolor.runtime.registry import import_modules


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # in ml_collections
@pytest.mark.parametrize("text", ["import sys\nsys.exit(0)", "def get_config():\n    raise SystemExit", "exit(7)"])
def test_a_config_that_ends_the_program(text, tmp_path, monkeypatch, capsys):
    path = tmp_path / "exit.py"
    path.write_text(text)
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values)
    monkeypatch.setattr(flags, "FLAGS", values)
    with pytest.raises(SystemExit) as stop:
        program._parse("train.py", ["train.py", f"--config={path}"], holder, Config)
    assert stop.value.code == 1
    said = "train.py: --config: the file ended the program itself (sys.exit); it must not\n"
    assert capsys.readouterr().err == said


def test_a_module_that_ends_the_program(tmp_path, monkeypatch):
    (tmp_path / "ends_the_program.py").write_text("import sys\nsys.exit(0)")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="module ends_the_program cannot be imported: SystemExit: 0"):
        import_modules(["ends_the_program"])
    assert "ends_the_program" not in sys.modules
