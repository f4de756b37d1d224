from __future__ import annotations

import os
import subprocess
import sys

import jax
import jax.numpy as jnp

from jaxcolor.runtime.compile_cache import LEAST_SECONDS, compile_cache, folder


def test_programs_are_kept_in_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    minimum = jax.config.jax_persistent_cache_min_compile_time_secs
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    try:
        with compile_cache():
            jax.jit(lambda x: x * 3 + 41)(jnp.ones(7)).block_until_ready()
            assert jax.config.jax_compilation_cache_dir == str(folder())
        assert jax.config.jax_compilation_cache_dir is None
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.0
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)
        with compile_cache():
            assert jax.config.jax_persistent_cache_min_compile_time_secs == LEAST_SECONDS
    finally:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", minimum)
        jax.config.update("jax_compilation_cache_dir", before)
    assert folder().is_relative_to(tmp_path)
    assert any(path.name.endswith("-cache") for path in folder().iterdir())


def test_a_folder_that_jax_knows_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    try:
        with compile_cache():
            assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "own")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert not (tmp_path / "jaxcolor").exists()


def test_a_folder_that_cannot_be_written_costs_a_warning_only(tmp_path):
    program = (
        "import jax, jax.numpy as jnp\n"
        "from jaxcolor.runtime.compile_cache import compile_cache\n"
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)\n"
        "with compile_cache():\n"
        "    print(jax.jit(lambda x: x + 1)(jnp.ones(3)))\n"
    )
    (tmp_path / "file").write_text("in the way")
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    run = subprocess.run(
        [sys.executable, "-c", program],
        env=environment | {"XDG_CACHE_HOME": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "2. 2. 2." in run.stdout
    assert "cache" in run.stderr.lower()
