"""What a checkpoint records besides arrays and settings: the code that made it, the photos, the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jaxcolor
from jaxcolor.config import Config
from jaxcolor.config_io import to_dict
from jaxcolor.data.types import Source

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint")


def provenance(config: Config, source: Source) -> dict[str, Any]:
    """All that is known of a run before its first step, in JSON types.

    Returns:
      ``config``, whole. ``code``: version and git commit of jaxcolor. ``versions`` of the packages that compute.
      ``data``: the identity of the photos (``data_identity``). ``seeds``: all random choices are functions of these, of
      the stage and of the step (a photo's position is a function of it), so a checkpoint holds no generator state.
    """
    return {
        "config": to_dict(config),
        "code": {"version": jaxcolor.__version__, "commit": git_commit(Path(jaxcolor.__file__).parents[1])},
        "versions": {name: metadata.version(name) for name in PACKAGES},
        "data": data_identity(source),
        "seeds": {"initialization": config.seed, "data": config.data.seed},
    }


def data_identity(source: Source) -> Any:
    """What distinguishes the photos of one source from those of another, in JSON types.

    The result of the source's method ``identity``, if it has one: a text, a mapping or a named tuple. Otherwise the
    line that describes it: path, how many photos, how many boxes.
    """
    own = getattr(source, "identity", None)
    value = source.describe() if own is None else own()
    return dict(value._asdict()) if hasattr(value, "_asdict") else dict(value) if isinstance(value, Mapping) else value


def git_commit(checkout: Path) -> str:
    """The commit that a checkout is at, or '' where there is none; changes that are not committed do not show.

    Read from git's files: a machine that trains need not have git.
    """
    try:
        folder = checkout / ".git"
        if folder.is_file():  # a worktree: its own HEAD, and branches in common with the repository
            folder = checkout / folder.read_text().removeprefix("gitdir:").strip()
        common = folder / (folder / "commondir").read_text().strip() if (folder / "commondir").exists() else folder
        head = (folder / "HEAD").read_text().strip()
        if not head.startswith("ref:"):
            return head
        name = head.removeprefix("ref:").strip()
        if (common / name).exists():
            return (common / name).read_text().strip()
        packed = (line.split() for line in (common / "packed-refs").read_text().splitlines())
        return next((fields[0] for fields in packed if fields[1:] == [name]), "")
    except (OSError, UnicodeDecodeError):
        return ""


def describe_code(record: Mapping[str, Any]) -> str:
    """Code and packages of a checkpoint's provenance, in a few words: ``jaxcolor 0.1.0 (1a2b3c4d5e), jax 0.10.2``."""
    code = record.get("code", {})
    commit = f" ({code['commit'][:10]})" if code.get("commit") else ""
    packages = [f"{name} {version}" for name, version in record.get("versions", {}).items()]
    return ", ".join([f"jaxcolor {code.get('version', 'of unknown version')}{commit}", *packages])
