"""The pairs: NN_name.py (which a person edits) and NN_name.ipynb (which a student opens, with outputs).

Those in solutions/ hold the worked answers to the exercises, and are treated as the others are.

python notebooks/build.py sync                     # both of a pair hold the same cells, the newer one's
python notebooks/build.py execute [01 03 …]        # fresh kernel, top to bottom, outputs saved; solutions/01 is one too
python notebooks/build.py execute --language zh-TW [01 06:15 …]  # the Chinese ones, for their figures; 06 to cell 15 only
python notebooks/build.py badges owner/name [REF]  # badge, clone address and the page's link lead there; REF is main
python notebooks/build.py smoke FOLDER             # copies with small sizes, for `make test`

What `sync` and `execute` replace is kept beside it, as NAME.before-sync.ipynb, where it holds cells of its own.
"""

import base64
import re
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from jupytext.combine import combine_inputs_with_outputs

HERE = Path(__file__).resolve().parent
PICTURES = HERE / "pictures"
SAMPLE = HERE.parent / "data" / "mnist_sample.npz"  # the 5,000 that come with the kit
BEFORE = ".before-sync"  # in the name of a file that was replaced
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
    "jupytext": {"formats": "ipynb,py:percent"},
}
SMALL = {  # parameters with which every cell runs, in seconds; what is drawn then are no digits
    "00_toy": {"STEPS": 60, "POINTS": 200, "SEEDS": 1},
    "01_data": {"SOURCE": "sample"},
    "02_training": {"RECIPE": "smoke", "SOURCE": "sample", "STEPS": 15, "BASE": 16, "SEEDS": 1, "SAMPLES": 16},
    "03_sampling": {"RUN": "smoke", "IMAGES": 100, "COMPARE": 60},
    "04_visualization": {"RUN": "smoke", "SAMPLES": 6, "DPI": 60},
    "05_fid": {"RUN": "smoke", "IMAGES": 40, "INCEPTION": False},
    "06_report": {"RUN": "smoke", "IMAGES": 100},
    "solutions/00_toy": {"SEEDS": (0,), "STEPS": 60, "POINTS": 200},
    "solutions/01_data": {"SEEDS": (0,), "DIGITS": 600},
    "solutions/02_training": {"STEPS": 12, "SAMPLES": 4, "SEEDS": (0,)},
    "solutions/03_sampling": {"STEPS": 5, "PAIRS": 2, "IMAGES": 12, "SEEDS": (0,)},
    "solutions/04_visualization": {"RUN": "smoke", "SEEDS": (0,), "SAMPLES": 4, "ROWS": 1},
    "solutions/05_fid": {"RUN": "smoke", "SEEDS": (0,), "DIGITS": 600},
    "solutions/06_report": {"RUN": "smoke", "SEEDS": (0,), "DIGITS": 64, "IMAGES": 20},
}


def sources() -> list[Path]:
    """The .py of every pair, in order: first the notebooks, then the answers to their exercises."""
    found = (sorted(folder.glob("[0-9][0-9]_*.py")) for folder in (HERE, HERE / "solutions"))
    return [path for pairs in found for path in pairs if BEFORE not in path.name]


def called(source: Path) -> str:
    """What the command line and SMALL call a pair: 01_data, or solutions/01_data."""
    return source.relative_to(HERE).with_suffix("").as_posix()


# In step


def sync() -> None:
    """Brings each pair in step: the older file gets the cells of the newer one. What it held itself is kept."""
    for source in sources():
        notebook = source.with_suffix(".ipynb")
        if not notebook.exists():
            write(jupytext.read(source), notebook)
        elif cells(source) != cells(notebook):
            if source.stat().st_mtime < notebook.stat().st_mtime:
                keep(source)
                jupytext.write(jupytext.read(notebook), source, fmt="py:percent")
            else:
                keep(notebook)
                before = nbformat.read(notebook, as_version=4)
                write(combine_inputs_with_outputs(jupytext.read(source), before), notebook)


def cells(path: Path) -> list[tuple]:
    """What a person writes of a notebook: kind, text and tags of each cell."""
    return [(cell.cell_type, cell.source, tags(cell)) for cell in jupytext.read(path).cells]


def keep(path: Path) -> None:
    """Copies a file whose cells are about to be replaced, under a name that nothing has yet."""
    names = (f"{path.stem}{BEFORE}{n}{path.suffix}" for n in ["", *(f"-{n}" for n in range(2, 1000))])
    copy = next(copy for copy in map(path.with_name, names) if not copy.exists())
    shutil.copy2(path, copy)
    print(f"{path.name} held other cells than its pair. They are replaced; {copy.name} keeps them.")


# Running


def execute(names: list[str]) -> None:
    """Runs notebooks as their .py stands, and saves them with outputs; pictures of the goal are taken from them."""
    from nbclient import NotebookClient

    for source in sources():
        if names and not any(called(source).startswith(name) for name in names):
            continue
        print(f"{called(source)} …", flush=True)
        notebook, target = jupytext.read(source), source.with_suffix(".ipynb")
        before = cells(source)
        place = {"metadata": {"path": source.parent}}
        NotebookClient(notebook, timeout=None, kernel_name="python3", resources=place).execute()
        picture = show_goal(notebook)
        if picture:
            PICTURES.mkdir(exist_ok=True)
            (PICTURES / f"{source.stem}.png").write_bytes(picture)
        if target.exists() and cells(target) != before:
            keep(target)
        write(notebook, target)


def execute_chinese(names: list[str]) -> None:
    """Runs Chinese notebooks for the figures in which the library has words; all else stays what the English run gave."""
    import editions
    import translations
    from nbclient import NotebookClient

    editions.write_editions()
    last = dict(name.split(":") for name in names if ":" in name)
    for source in translations.sources([name.partition(":")[0] for name in names]):
        path, worked = HERE / translations.LANGUAGE / f"{source.stem}.ipynb", source.with_suffix(".ipynb")
        if faults := translations.faults(source):
            sys.exit("\n".join(faults))
        print(f"{path.parent.name}/{path.stem} …", flush=True)
        done = nbformat.read(path, as_version=4)
        count = int(last.get(source.stem[:2], len(done.cells))) + 1
        done.cells, rest = done.cells[:count], done.cells[count:]
        resources = {"metadata": {"path": path.parent}}
        NotebookClient(done, timeout=None, kernel_name="python3", resources=resources).execute()
        if not rest:
            show_goal(done)
        for cell in done.cells:
            if cell.cell_type == "code":
                cell.outputs = shown(cell)
        english = nbformat.read(worked, as_version=4)
        done = translations.run_in_chinese(english, done)
        done.cells += rest
        nbformat.write(translations.in_chinese(english, translations.catalogue(source), done), path)
    editions.write_editions()


def smoke(folder: Path) -> None:
    """Copies every .ipynb; after its parameters comes a cell with small ones (as papermill injects them).

    Where SMALL names the sample, they read every fifth of its digits, from a file that is put beside them.
    """
    digits = folder.resolve() / "digits.npz"
    digits.parent.mkdir(parents=True, exist_ok=True)
    with np.load(SAMPLE) as sample:
        np.savez(digits, **{name: sample[name][::5] for name in ("images", "labels")})
    for source in sources():
        values, target = SMALL[called(source)], folder / f"{called(source)}.ipynb"
        values = {key: str(digits) if value == "sample" else value for key, value in values.items()}
        notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        (place,) = (i for i, cell in enumerate(notebook.cells) if "parameters" in tags(cell))
        code = "\n".join(f"{key} = {value!r}" for key, value in values.items())
        injected = nbformat.v4.new_code_cell(code, metadata={"tags": ["injected-parameters"]})
        notebook.cells.insert(place + 1, injected)
        target.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, target)


def show_goal(notebook) -> bytes | None:
    """Puts the picture of the cell tagged `goal` under the first code cell too, where the kit shows it at the start."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    images = [out for cell in cells if "goal" in tags(cell) for out in cell.outputs if "image/png" in out.get("data", {})]
    if not images:
        return None
    picture, about = images[-1]["data"]["image/png"], images[-1].get("metadata", {})
    shown = nbformat.v4.new_output("display_data", {"image/png": picture}, metadata=about)
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
            cell.outputs = shown(cell)
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def shown(cell) -> list:
    """The outputs of a code cell that are saved: of a widget the picture that comes with it, of a progress bar nothing."""
    widgets = [out.get("data", {}).pop(WIDGET, None) for out in cell.outputs]
    kept = zip(cell.outputs, widgets, strict=True)
    return merged([out for out, widget in kept if not widget or "image/png" in out.data])


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


# Where they point


def badges(repository: str, ref: str = "main") -> None:
    """Rewrites owner/name and the ref in badge and clone address of every pair, and makes the student edition anew.

    So it does with the link to the page on GitHub Pages, which stands in translations and READMEs, too.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        sys.exit(f"{repository!r} is not of the form owner/name.")
    if not re.fullmatch(r"[\w./-]+", ref):
        sys.exit(f"{ref!r} is no branch or tag.")
    pairs = [path for source in sources() for path in (source, source.with_suffix(".ipynb"))]
    for path in filter(Path.exists, [*pairs, *HERE.rglob("*.po"), *HERE.glob("README*.md")]):
        text = path.read_text("utf-8")
        page = r"(colab\.research\.google\.com/github/)[\w.-]+/[\w.-]+/blob/[\w./-]+(/notebooks/)"
        text = re.sub(page, rf"\g<1>{repository}/blob/{ref}\2", text)
        clone = r"(git clone -q -b )[\w./-]+( https://github\.com/)[\w.-]+/[\w.-]+"
        text = re.sub(clone, rf"\g<1>{ref}\g<2>{repository}", text)
        owner, name = repository.split("/")
        text = re.sub(r"https://[\w.-]+\.github\.io/[\w.-]+/(?=index\.html)", f"https://{owner}.github.io/{name}/", text)
        path.write_text(text, "utf-8")
    subprocess.run([sys.executable, HERE / "editions.py"], check=True)  # their badges are made of these


if __name__ == "__main__":
    command, *rest = sys.argv[1:] or ["help"]
    if command == "sync":
        sync()
    elif command == "execute" and rest[:2] == ["--language", "zh-TW"]:
        execute_chinese(rest[2:])
    elif command == "execute":
        execute(rest)
    elif command == "badges" and len(rest) in (1, 2):
        badges(*rest)
    elif command == "smoke" and len(rest) == 1:
        smoke(Path(rest[0]))
    else:
        sys.exit(__doc__)
