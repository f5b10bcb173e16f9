"""Every notebook runs from top to bottom, in small sizes, and its marked cells put out what is saved (nbval)."""

import os
import subprocess
import sys
from pathlib import Path

from conftest import KIT, MNIST, copy_of_kit

from hwkit.mnist.sources import SAMPLE


def run_small(names: list[str], folder: Path) -> None:
    """Runs notebooks, in this order and with one folder of runs, in a copy of the kit: they write into its data/."""
    kit, small = copy_of_kit(folder / "kit", "hwkit", "notebooks", "data"), folder / "small"
    subprocess.run([sys.executable, kit / "notebooks" / "build.py", "smoke", small], check=True)
    environment = {**os.environ, "PYTHONPATH": str(kit), "HWKIT_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1"}
    if MNIST != SAMPLE:
        environment["HWKIT_MNIST"] = os.path.abspath(MNIST)
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-q", "-p", "no:cacheprovider", *names]
    done = subprocess.run(command, cwd=small, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-30_000:] + done.stderr[-3_000:]


def test_the_notebooks_run(tmp_path):
    run_small(sorted(path.with_suffix(".ipynb").name for path in (KIT / "notebooks").glob("0[0-9]_*.py")), tmp_path)
