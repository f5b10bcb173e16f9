"""An evening on Colab, killed between any two cells: the next session has one's own model, or a loud sentence.

Each notebook is a session of its own, with a fake `google.colab`. What a killed session leaves is what Drive holds, so
Drive is copied after each cell, and after each file that is written to it; from each such copy the next session begins.
Notebooks 3 to 6 have no session without the run of notebook 2. Colab itself cannot be run here.
"""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest

KIT = Path(__file__).resolve().parent.parent
NOTEBOOKS = KIT / "notebooks"
SESSION = r'''
import contextlib, hashlib, io, json, os, shutil, sys, traceback, types
from pathlib import Path

here, drive, states, spec = Path.cwd(), Path(sys.argv[1]), Path(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
names = ("google", "google.colab", "google.colab.drive", "google.colab.files")
google, colab, drive_module, files = modules = [types.ModuleType(name) for name in names]
google.colab, colab.drive, colab.files, downloaded = colab, drive_module, files, []
drive_module.mount = lambda point: None if os.path.islink(point) else os.symlink(drive, point)
files.download = downloaded.append
sys.modules.update(zip(names, modules))

seen, cell = set(), -1

def snapshot():
    """Keeps what Drive holds now, if it is something new, named by the cell after which it is so."""
    files = sorted(path for path in drive.rglob("*") if path.is_file())
    parts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    state = hashlib.sha256(repr(parts).encode()).hexdigest()
    if state not in seen:
        seen.add(state)
        shutil.copytree(drive, states / f"{len(seen):03d}-after-cell-{cell}", copy_function=os.link)

namespace = {"__name__": "__main__"}
for cell, code in enumerate(spec["cells"]):
    exec(compile(code, f"cell {cell}", "exec"), namespace)
    if cell == 0:
        import dataclasses, hwkit.measure.check, hwkit.recipe
        from hwkit import notebook
        short = {"name": "mine", "T": 100, "schedule": "cosine"}  # so that DDPM over all T takes a moment
        hwkit.recipe.RECIPES["mine"] = dataclasses.replace(hwkit.recipe.RECIPES["smoke"], **short)
        # Its verdict is not the point: a network of two epochs makes no digits.
        hwkit.measure.check.rows = lambda folder, n: iter([hwkit.measure.check.Row(f"{n} files", True, "all")])
        whole = notebook.copy_whole
        def copy_and_look(source, target):
            whole(source, target)
            snapshot()
        notebook.copy_whole = copy_and_look
    snapshot()
print("DOWNLOADED", downloaded)
'''
LATER = r"""
import os, shutil, sys, types
from pathlib import Path

names = ("google", "google.colab", "google.colab.drive")
google, colab, drive_module = modules = [types.ModuleType(name) for name in names]
google.colab, colab.drive = colab, drive_module
drive_module.mount = lambda point: None
sys.modules.update(zip(names, modules))
sys.path.insert(0, sys.argv[1])
from hwkit import notebook
from hwkit.runs.checkpoint import best_of, is_the_kits

for number, state in enumerate(sorted(Path(sys.argv[2]).iterdir())):
    os.environ["HWKIT_RUNS"] = str(Path.cwd() / f"session-{number}")
    point = Path.cwd() / f"point-{number}"
    shutil.copytree(state, point)
    print("STATE", state.name)
    notebook.mount(point)
    run = notebook.find_run()
    print("RUN", run.name, best_of(run).name, "KIT" if is_the_kits(best_of(run)) else "OWN")
"""
ANSWERED = {
    "06_report": {
        "AUTHOR": "Lin Mei",
        "STUDENT_NUMBER": "B12901001",
        "CONCLUSION": "It was trained for a moment only, so these are no digits yet.",
        "RUN": None,
        "IMAGES": 24,
    },
    "02_training": {"RECIPE": "mine"},
    "03_sampling": {"RUN": None, "IMAGES": 24, "COMPARE": 24},
    "04_visualization": {"RUN": None},
    "05_fid": {"RUN": None, "IMAGES": 24},
}


def small_sizes() -> dict[str, dict]:
    spec = importlib.util.spec_from_file_location("build", NOTEBOOKS / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    names = [name for name in build.SMALL if "01" <= name[:2] <= "06"]
    return {name: build.SMALL[name] | ANSWERED.get(name, {}) for name in names}


def cells_of(name: str, values: dict, content: Path) -> list[str]:
    """The code cells of a notebook as Colab would run them, with small sizes, and the questions answered."""
    cells = []
    for cell in jupytext.read(NOTEBOOKS / f"{name}.py").cells:
        if cell.cell_type == "code":
            code = re.sub(r'": "",$', '": "Squared error asks for an average.",', cell.source, flags=re.M)
            cells.append(code.replace("/content", str(content)))
            if "parameters" in cell.metadata.get("tags", []):
                cells.append("".join(f"{key} = {value!r}\n" for key, value in values.items()))
    return cells


@pytest.fixture(scope="module")
def evening(tmp_path_factory):
    """Runs notebooks 1 to 6, a session each, on one Drive; returns what each said, and the folder of Drive's states."""
    base = tmp_path_factory.mktemp("evening")
    drive, tools = base / "drive", base / "bin"
    (drive / "MyDrive" / "Colab Notebooks").mkdir(parents=True)
    (drive / "MyDrive" / "Colab Notebooks" / "Copy of 06_report.ipynb").write_text("{}")
    tools.mkdir()
    parts = " ".join(f'"{KIT / part}"' for part in ("hwkit", "notebooks", "requirements.txt"))
    data = " ".join(f'"{KIT / "data" / part}"' for part in ("mnist_sample.npz", "digit_features", "pretrained"))
    copy = f"mkdir -p hwkit/data; cp -r {parts} hwkit; cp -r {data} hwkit/data"
    (tools / "git").write_text(f"#!/bin/sh\n{copy}\n")
    (tools / "git").chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HWKIT", "PYTHON"))}
    env = {**kept, "HOME": str(base / "home"), "PATH": f"{tools}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    said = {}
    for name, values in small_sizes().items():
        content, states = base / name / "content", base / name / "states"
        content.mkdir(parents=True)
        states.mkdir()
        spec, script = base / name / "cells.json", base / name / "session.py"
        spec.write_text(json.dumps({"cells": cells_of(name, values, content)}))
        script.write_text(SESSION)
        command = [sys.executable, script, drive, states, spec]
        done = subprocess.run(command, cwd=content, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        said[name] = done.stdout
        shutil.rmtree(content)  # what Colab does when a session ends
    return base, said, env


def test_the_evening_ends_in_ones_own_submission(evening):
    base, said, _ = evening
    for name in list(said)[2:]:
        assert "NOT YOUR MODEL" not in said[name], name
        assert "runs/mine" in said[name], name
    assert "DOWNLOADED ['runs/mine/submission.zip']" in said["06_report"]
    kept = {path.name for path in (base / "drive" / "MyDrive" / "hwkit" / "mine").iterdir()}
    trained, made = {"latest.pt", "ema_latest.pt", "history.jsonl"}, {"generate.zip", "figures", "report"}
    assert trained | made | {"submission.zip"} <= kept


@pytest.mark.parametrize("name", ["02_training", "03_sampling", "04_visualization", "05_fid", "06_report"])
def test_killed_between_any_two_cells_or_writes_one_has_ones_own_model_or_is_told(evening, tmp_path, name):
    base, _, env = evening
    script = tmp_path / "later.py"
    script.write_text(LATER)
    command = [sys.executable, script, KIT, base / name / "states"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    sessions = done.stdout.split("STATE ")[1:]
    assert len(sessions) >= 1
    for session in sessions:
        own, loud = " OWN" in session, "NOT YOUR MODEL" in session
        assert own != loud, session
    if name != "02_training":  # all of it runs after the training
        assert all(" OWN" in session for session in sessions)
    else:
        assert " KIT" in sessions[0] and " OWN" in sessions[-1]
        assert len(sessions) > 4, "before, within and after the training"
