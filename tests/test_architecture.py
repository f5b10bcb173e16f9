"""The packages know each other in one direction: lesson ← mnist ← runs ← measure ← show, course ← grade ← all."""

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

KIT = Path(__file__).resolve().parent.parent
LESSON = {"schedule", "diffusion", "solvers", "sampling", "unet", "recipe", "training"}
GROUPS = [{"files", "muon", "layers", "language"}, LESSON, {"mnist"}, {"runs"}, {"measure"}, {"show"}, {"course"}]
GROUPS += [{"grade"}, {"notebook"}, {"__main__"}]
MODULES = {
    ".".join(path.relative_to(KIT / "hwkit").with_suffix("").parts): path
    for path in (KIT / "hwkit").rglob("*.py")
    if path.name != "__init__.py"
}


def imports(source: str, modules=frozenset(MODULES)) -> set[str]:
    """The modules of hwkit that a module imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("hwkit.") for name in found} & modules


def group(module: str) -> int:
    return next(i for i, names in enumerate(GROUPS) if module.split(".")[0] in names)


def test_imports_are_found_in_every_form():
    source = """
import hwkit.mnist.sources
from hwkit import unet, __version__
from hwkit.schedule import linear
def f():
    from hwkit.runs import run
    from hwkit.show.figures import save
    import numpy, torch.nn
"""
    assert imports(source) == {"mnist.sources", "unet", "schedule", "runs.run", "show.figures"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_from_what_stands_before_it(module):
    wrong = {name for name in imports(MODULES[module].read_text("utf-8")) if group(name) > group(module)}
    assert wrong == set()


def test_nobody_imports_in_a_circle():
    TopologicalSorter({name: imports(path.read_text("utf-8")) for name, path in MODULES.items()}).prepare()


def test_muon_layers_and_language_know_nobody_and_files_only_speaks():
    for name in ("muon", "layers", "language"):
        assert imports(MODULES[name].read_text("utf-8")) == set()
    assert imports(MODULES["files"].read_text("utf-8")) == {"language"}


def test_only_the_command_line_knows_the_command_line():
    for name, path in MODULES.items():
        knows = re.search(r"^\s*(import|from) tyro", path.read_text("utf-8"), re.M)
        assert bool(knows) == (name == "__main__"), name


def lines(names) -> int:
    return sum(len(MODULES[name].read_text("utf-8").splitlines()) for name in names)


def test_the_lesson_stays_short():
    """Whoever opens the kit reads it first, in one sitting."""
    assert lines(LESSON) <= 900


def test_nothing_opens_pyplot():
    """It would choose a backend for the notebook that imports hwkit, and show figures twice."""
    modules = ", ".join(f"hwkit.{module}" for module in MODULES)
    code = f"import sys, {modules}; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=KIT).returncode == 0


@pytest.mark.parametrize("name", ["requirements.txt", "tests/requirements.txt"])
def test_requirements_are_lower_bounds(name):
    """A pin would replace the torch that Colab comes with."""
    found = [line.split("#")[0].strip() for line in (KIT / name).read_text("utf-8").splitlines()]
    assert any(found)
    form = r'[\w.-]+(\[\w+\])?>=[\d.]+(; python_version < "3\.\d+")?'
    wrong = [line for line in found if line and not re.fullmatch(form, line)]
    assert wrong == []
