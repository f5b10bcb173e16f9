"""The pairs: NN_name.py (which a person edits) and NN_name.ipynb (which a student opens, with outputs).

python notebooks/build.py sync                 # both of a pair hold the same cells, the newer one's
python notebooks/build.py execute [01 03 …]    # fresh kernel, top to bottom, outputs saved
python notebooks/build.py badges owner/name    # badge and clone address point there
"""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
    "jupytext": {"formats": "ipynb,py:percent"},
}


def sources() -> list[Path]:
    """The .py of every pair, in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def sync() -> None:
    """Brings each pair in step."""
    for source in sources():
        if source.with_suffix(".ipynb").exists():
            subprocess.run([sys.executable, "-m", "jupytext", "--sync", "--quiet", str(source)], check=True)
        else:
            write(jupytext.read(source), source.with_suffix(".ipynb"))


def execute(names: list[str]) -> None:
    """Runs notebooks as their .py stands, and saves them with outputs; pictures of the goal are taken from them."""
    from nbclient import NotebookClient

    for source in sources():
        if names and not any(source.name.startswith(name) for name in names):
            continue
        print(f"{source.stem} …", flush=True)
        notebook = jupytext.read(source)
        NotebookClient(notebook, timeout=None, kernel_name="python3", resources={"metadata": {"path": HERE}}).execute()
        picture = show_goal(notebook)
        if picture and os.environ.get("HWKIT_RECIPE") != "smoke":
            PICTURES.mkdir(exist_ok=True)
            (PICTURES / f"{source.stem}.png").write_bytes(picture)
        write(notebook, source.with_suffix(".ipynb"))


def show_goal(notebook) -> bytes | None:
    """Puts the picture of the cell tagged `goal` under the first code cell too, where the kit shows it at the start."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    images = [out for cell in cells if "goal" in tags(cell) for out in cell.outputs if "image/png" in out.get("data", {})]
    if not images:
        return None
    shown = nbformat.v4.new_output("display_data", {"image/png": images[-1]["data"]["image/png"]})
    cells[0].outputs = [out for out in cells[0].outputs if out.output_type == "stream"] + [shown]
    return base64.b64decode(images[-1]["data"]["image/png"])


def write(notebook, path: Path) -> None:
    """Saves without what no reader needs: widget state, progress bars, timings; with ids that do not change."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = nbformat.from_dict({"tags": tags(cell)} if tags(cell) else {})
        if cell.cell_type == "code":
            cell.outputs = merged([out for out in cell.outputs if WIDGET not in out.get("data", {})])
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def merged(outputs: list) -> list:
    """Streams of one name that follow each other, as one; progress bars on stderr left out."""
    kept = []
    for out in outputs:
        if out.output_type == "stream" and out.name == "stderr":
            continue
        if out.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += out.text
        else:
            kept.append(out)
    return kept


def tags(cell) -> list[str]:
    return list(cell.metadata.get("tags", []))


def badges(repository: str) -> None:
    """Rewrites owner/name in the badge and in the clone address of every pair."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        sys.exit(f"{repository!r} is not of the form owner/name.")
    for path in [*HERE.glob("[0-9][0-9]_*.py"), *HERE.glob("[0-9][0-9]_*.ipynb")]:
        text = path.read_text("utf-8")
        text = re.sub(r"(colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+(/blob/)", rf"\g<1>{repository}\2", text)
        text = re.sub(r"(https://github\.com/)[\w.-]+/[\w.-]+( /content/)", rf"\g<1>{repository}\2", text)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or ["help"]
    if command == "sync":
        sync()
    elif command == "execute":
        execute(rest)
    elif command == "badges" and len(rest) == 1:
        badges(rest[0])
    else:
        sys.exit(__doc__)
