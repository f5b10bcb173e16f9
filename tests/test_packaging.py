"""What `pip install` installs: every package, the data that come with the kit, and what the kit imports; no network."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hwkit

KIT = Path(__file__).resolve().parent.parent
DATA = {
    "mnist_sample.npz",
    "digit_features/digit_classifier.safetensors",
    "digit_features/digit_stats_train.npz",
    "digit_features/floors.json",
    "pretrained/ema_latest.safetensors",
    "pretrained/history.jsonl",
    "pretrained/fast/ema_latest.safetensors",
}
DISTRIBUTIONS = {"PIL": "pillow", "IPython": "ipython", "pytorch_fid": "pytorch-fid"}  # where the names differ
ONLY_THERE = {"google", "pypdf"}  # on Colab, which brings it along; where an instructor has installed it


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout, built from a copy, beside whose data lie 28×28 PNGs that nobody wants installed."""
    copy = tmp_path_factory.mktemp("wheel") / "kit"
    for name in ("hwkit", "data"):
        ignored = shutil.ignore_patterns("__pycache__", "mnist", "sample", "download") if name == "data" else None
        shutil.copytree(KIT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(KIT / name, copy)
    prepared = copy / "data" / "mnist" / "train" / "00001.png"
    prepared.parent.mkdir(parents=True)
    prepared.write_bytes(b"a prepared digit")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "out", "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (copy / "out").glob("*.whl")
    return path


KINDS = (".py", ".css", ".html", ".js", ".toml", ".mo")


def test_a_wheel_holds_every_file_of_the_kit_and_its_data_only(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    files = [path for path in (KIT / "hwkit").rglob("*") if path.suffix in KINDS]
    assert files and {path.relative_to(KIT).as_posix() for path in files} <= names
    assert {f"hwkit/data/{name}" for name in DATA} <= names
    assert not [name for name in names if name.endswith(".png")]


def test_an_installed_kit_finds_its_data(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = """
import hwkit, sys
from pathlib import Path
from hwkit.mnist.sources import SAMPLE, read_source
from hwkit.runs.checkpoint import unpack_pretrained
assert Path(hwkit.__file__).is_relative_to(sys.argv[1]), hwkit.__file__
assert SAMPLE.is_relative_to(sys.argv[1]) and len(read_source(SAMPLE, "train").images) == 4500
assert unpack_pretrained(Path("runs")).is_dir()
"""
    path = f"import sys; sys.path[0] = {str(tmp_path / 'site')!r}\n"  # rather than the folder where it is called
    command = [sys.executable, "-c", path + code, str((tmp_path / "site").resolve())]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_wheel_says_what_it_needs_and_which_command_it_brings(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/METADATA"))
    (commands,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith("/entry_points.txt"))
    needed = {re.match(r"[\w-]+", line)[0] for line in re.findall(r"^Requires-Dist: (.*)$", metadata, re.M)}
    assert needed == required() and f"\nVersion: {hwkit.__version__}\n" in metadata
    assert "hwkit = hwkit.__main__:main" in commands


def required() -> set[str]:
    return set(re.findall(r"^[\w-]+", (KIT / "requirements.txt").read_text("utf-8"), re.M))


def test_every_package_that_the_kit_imports_is_required_by_name():
    imported = set()
    for path in (KIT / "hwkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.split(".")[0] for name in names}
    foreign = imported - set(sys.stdlib_module_names) - {"hwkit"} - ONLY_THERE
    assert {"torch", "jinja2", "IPython"} <= foreign
    assert {DISTRIBUTIONS.get(name, name) for name in foreign} <= required()


def test_the_version_is_the_same_wherever_it_is_written():
    assert f"\nversion: {hwkit.__version__}\n" in (KIT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^## \[(\d.*?)\]", (KIT / "CHANGELOG.md").read_text("utf-8"), re.M)[1] == hwkit.__version__
