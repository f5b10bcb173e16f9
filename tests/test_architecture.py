"""The house stands as its plan says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

KIT = Path(__file__).resolve().parent.parent
MODULES = {path.stem: path for path in (KIT / "hwkit").glob("*.py") if path.stem != "__init__"}


def plan() -> dict[str, int]:
    """module → floor, from the table in hwkit/README.md."""
    rows = re.findall(r"^\|\s*(\d+)\s*\|\s*`(\w+)\.py`\s*\|\s*\S", (KIT / "hwkit/README.md").read_text("utf-8"), re.M)
    assert len({module for _, module in rows}) == len(rows), "a module stands in the plan twice"
    return {module: int(floor) for floor, module in rows}


def imports(source: str) -> set[str]:
    """The modules of hwkit that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ("hwkit." * bool(node.level) + (node.module or "")).rstrip(".")
            found |= {package} | {f"{package}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in found if name.startswith("hwkit.") and name.split(".")[1] in MODULES}


def test_imports_are_found_in_every_form():
    source = """
import hwkit.data
from hwkit import model, __version__
from hwkit.schedule import linear
def f():
    from .train import train
    from . import figures
    import numpy, torch.nn
"""
    assert imports(source) == {"data", "model", "schedule", "train", "figures"}


def test_the_plan_holds_every_module_and_no_other():
    assert set(plan()) == set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_from_lower_floors_only(module):
    floors = plan()
    too_high = {name for name in imports(MODULES[module].read_text("utf-8")) if floors[name] >= floors[module]}
    assert too_high == set(), f"{module} on floor {floors[module]}"


def test_nothing_opens_pyplot():
    """It would choose a backend for the notebook that imports hwkit, and show figures twice."""
    modules = ", ".join(f"hwkit.{module}" for module in MODULES)
    code = f"import sys, {modules}; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=KIT).returncode == 0


@pytest.mark.parametrize("name", ["requirements.txt", "tests/requirements.txt"])
def test_requirements_are_lower_bounds(name):
    """A pin would replace the torch that Colab comes with."""
    lines = [line.split("#")[0].strip() for line in (KIT / name).read_text("utf-8").splitlines()]
    assert any(lines)
    wrong = [line for line in lines if line and not re.fullmatch(r"[\w.-]+(\[\w+\])?>=[\d.]+", line)]
    assert wrong == []
