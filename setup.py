"""What pyproject.toml cannot say: ``configs/``, at the top of the clone, is ``jaxcolor/configs`` of the package."""

from pathlib import Path

from setuptools import find_packages, setup

CONFIGS = [path.relative_to("configs") for path in Path("configs").rglob("*") if any(path.glob("*.py"))]

setup(
    packages=[
        *find_packages(include=["jaxcolor*"]),
        "jaxcolor.configs",
        *(".".join(("jaxcolor.configs", *path.parts)) for path in CONFIGS),
    ],
    package_dir={"jaxcolor.configs": "configs"},
)
