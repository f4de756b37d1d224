from __future__ import annotations

import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxcolor
from jaxcolor import cli
from jaxcolor.color import SaturationCurve
from jaxcolor.config import BoxHeadConfig, ConfigError
from jaxcolor.models import box_head
from jaxcolor.models.networks import TREES
from jaxcolor.weights import native, reference, storage
from tests.weights.conftest import SMALL, assert_same, flat


@pytest.fixture(scope="module")
def full(states):
    """What ``reference.load`` gives for one file of the full branch."""
    translated = reference.variables_from_state("full", states["full"])
    return reference.Reference({"full": translated.variables}, {"full": translated.unused})


@pytest.fixture
def loads(full, monkeypatch):
    """Replaces the reading of .pth files, which needs PyTorch."""
    monkeypatch.setattr(reference, "load", lambda source, form: full)


def failure(capsys, *arguments) -> str:
    """The message of a command that must fail."""
    assert cli.main([str(a) for a in arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err.startswith("jaxcolor convert: ")
    return captured.err.removeprefix("jaxcolor convert: ").rstrip("\n")


def test_convert_three_files(states, pth_folder, tmp_path, capsys):
    output = tmp_path / "all.safetensors"
    assert cli.main(["convert", str(pth_folder), str(output), "--note", "as released"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)",
        "  full: 34,187,027 parameters; 9 unused arrays kept (num_batches_tracked)",
        "  instance: 34,051,074 parameters; 11 unused arrays kept (model_class.*, num_batches_tracked)",
        "  fusion: 35,129,340 parameters; "
        "23 unused arrays kept (model_class.*, num_batches_tracked, weight_layerout.*)",
    ]
    loaded = native.load(output)
    output.unlink()
    assert loaded.note == "as released"
    assert loaded.trees == TREES
    for tree in TREES:
        assert_same(reference.state_from_variables(tree, loaded.variables[tree], loaded.unused[tree]), states[tree])


def test_convert_one_file(loads, tmp_path, capsys):
    output = tmp_path / "full.safetensors"
    assert cli.main(["convert", "some.pth", str(output)]) == 0
    assert "  full: 34,187,027 parameters; 9 unused arrays kept (num_batches_tracked)" in capsys.readouterr().out
    assert native.load(output).trees == ("full",)
    output.unlink()


def test_store_in_8_bits_and_back(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(storage, "LEAST", storage.Least(100, 500, 100))
    source, stored, again = (tmp_path / f"{name}.safetensors" for name in ("source", "stored", "again"))
    curve = SaturationCurve((0.0, 10.0), (0.0, 15.0))
    unused = {tree: {} for tree in small} | {"full": {"a": np.ones(2, np.float32)}}
    config = BoxHeadConfig(channels=4, groups=2)
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), box_head.abstract(SMALL, config))
    head = native.BoxHeadWeights(config, params)
    native.save(source, SMALL, small, unused, "a note", "vivid:0.5", curve, box_head=head)
    assert cli.main(["convert", str(source), str(stored), "--storage", "int8"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"wrote {stored} ({stored.stat().st_size / 1e6:.1f} MB)"
    loaded = native.load(stored)
    assert_same(loaded.unused["full"], unused["full"])
    assert loaded[3:7] == ("a note", "vivid:0.5", curve, "int8")
    assert loaded.box_head is not None
    assert loaded.box_head.config == config
    assert flat(loaded.box_head.variables).keys() == flat(params).keys()
    assert cli.main(["convert", str(stored), str(again), "--note", "floats"]) == 0
    capsys.readouterr()
    floats = native.load(again)
    assert (floats.storage, floats.note, floats.decode) == ("float", "floats", "vivid:0.5")
    assert_same(floats.variables, loaded.variables)
    assert failure(capsys, "convert", source, stored) == f"{stored}: exists; give --force to replace it"
    assert failure(capsys, "convert", tmp_path / "no.safetensors", tmp_path / "b.safetensors").endswith(
        "No such file or directory"
    )


def test_pth_files_in_8_bits(loads, full, tmp_path, capsys):
    """Full size, as people convert the reference's: a quarter as large."""
    output = tmp_path / "full.safetensors"
    assert cli.main(["convert", "some.pth", str(output), "--storage=int8"]) == 0
    size, loaded = output.stat().st_size, native.load(output)
    output.unlink()
    assert size < 36e6
    assert loaded.storage == "int8"
    before, after = (flat(variables["full"]) for variables in (full.variables, loaded.variables))
    for name, array in after.items():
        assert np.abs(array - before[name]).max() <= np.abs(before[name]).max() / 127 / 1.99, name


def test_nothing_is_replaced_unasked(loads, tmp_path, capsys):
    output = tmp_path / "full.safetensors"
    output.write_text("precious")
    assert failure(capsys, "convert", "some.pth", output) == f"{output}: exists; give --force to replace it"
    assert output.read_text() == "precious"
    assert cli.main(["convert", "some.pth", str(output), "--force"]) == 0
    assert native.load(output).trees == ("full",)
    output.unlink()


def test_expected_failures(tmp_path, capsys, monkeypatch):
    output = tmp_path / "out.safetensors"
    assert failure(capsys, "convert", tmp_path / "no.pth", output) == f"{tmp_path}/no.pth: No such file or directory"
    assert "no latest_net_GComp.pth" in failure(capsys, "convert", tmp_path, output)
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "some.pth").touch()
    assert "pip install 'jaxcolor[torch]'" in failure(capsys, "convert", tmp_path / "some.pth", output)
    assert not output.exists()


def test_a_failure_leaves_nothing(full, tmp_path, capsys, monkeypatch):
    params = {**full.variables["full"]["params"], "output": {"kernel": np.zeros((1, 1, 128, 2)), "bias": np.zeros(2)}}
    bad = reference.Reference({"full": {**full.variables["full"], "params": params}}, full.unused)
    monkeypatch.setattr(reference, "load", lambda source, form: bad)
    said = failure(capsys, "convert", "some.pth", tmp_path / "out.safetensors")
    assert "! wrong type: full/params/output/bias is F64, expected F32" in said
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(reference, "load", lambda source, form: full)
    folder = tmp_path / "no"
    assert failure(capsys, "convert", "some.pth", folder / "out.safetensors") == f"{folder}: no such folder"


def test_errors_of_ours_are_caught_once(capsys, monkeypatch):
    from jaxcolor.data.types import DataError

    for error in (ConfigError("model.side: 3"), DataError("photo.jpg: damaged"), OSError("disk"), KeyboardInterrupt()):

        def fail(options, error=error):
            raise error

        monkeypatch.setattr("jaxcolor.cli.convert.convert", fail)
        status = cli.main(["convert", "a", "b.safetensors"])
        said = capsys.readouterr().err
        if isinstance(error, KeyboardInterrupt):
            assert (status, said) == (130, "jaxcolor convert: interrupted\n")
        else:
            assert (status, said) == (1, f"jaxcolor convert: {error}\n")


def test_errors_of_the_program_are_not_hidden(monkeypatch):
    def fail(options):
        raise ValueError("a mistake of ours")

    monkeypatch.setattr("jaxcolor.cli.convert.convert", fail)
    with pytest.raises(ValueError, match="a mistake of ours"):
        cli.main(["convert", "a", "b.safetensors"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["paint"], "paint"),
        (["convert", "a.pth"], "OUTPUT"),
        (["convert", "out.safetensors", "a.pth", "--force"], "'a.pth' does not end in .safetensors"),
        (["convert", "a.safetensors", "b.safetensors", "--form=reference"], "--form is for .pth files"),
        (["convert", "--to-reference", "a.safetensors", "b", "--storage=int8"], "no place for --note"),
        (["convert", "a.safetensors", "b.safetensors", "--storage=int4"], "int4"),
    ],
)
def test_usage(arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"jaxcolor {jaxcolor.__version__}\n"


def test_help_is_fast():
    """Neither JAX nor PyTorch is loaded to print it."""
    program = (
        "import sys\nfrom jaxcolor import cli\n"
        "try: cli.main(['--help'])\n"
        "finally: assert not {'jax', 'flax', 'torch', 'numpy'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "convert" in done.stdout
