"""What is handed in: whether its texts are written, the facts of the run in one file, and the zip of everything."""

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from hwkit.files import is_leftover, whole_file, write_json
from hwkit.language import say
from hwkit.measure.score import images_sha256
from hwkit.mnist.folder import file_name, load_folder
from hwkit.runs.checkpoint import best_of, digest, is_the_kits, load, recipe_of
from hwkit.runs.generate import numbered, read_manifest
from hwkit.runs.run import read_history

PLACEHOLDERS = {"your name", "your student number", "name", "student number", "todo", "tba", "xxx", "a. student"}
SHORTEST = 20  # characters of a conclusion or an answer: one short sentence, in Chinese too


def unfinished(names: Mapping[str, str], texts: Mapping[str, str]) -> list[str]:
    """A sentence for each word that is still to be written; none where all are.

    names: what fits in a word or two, such as the author's name. texts: what takes a sentence at least. Of both, what
    it is → what was written.
    """
    left = []
    for what, said in {**names, **texts}.items():
        said = said.strip()
        if not any(map(str.isalnum, said)) or said.lower().strip(" .…") in PLACEHOLDERS or said.startswith("Your "):
            left.append(say("{what} is still to be written.", what=what))
        elif what in texts and len(said) < SHORTEST:
            text = "{what} is very short ({count} characters): write a sentence at least."
            left.append(say(text, what=what, count=len(said)))
    return left


def write_facts(path: Path, run: Path, images: Path) -> Path:
    """Writes what made the images as JSON: weights and their hash, recipe, sampler, seed, and the run's history."""
    weights, content = best_of(run), load(best_of(run))
    pixels = load_folder(images)
    facts = {
        "weights": {"file": weights.name, "sha256": digest(weights), "come_with_the_kit": is_the_kits(weights)},
        "epoch": content["epoch"],
        "images_seen": content["images_seen"],
        "recipe": asdict(recipe_of(content)),
        "versions": content["versions"],
        "images": {"count": len(pixels), "sha256": images_sha256([pixels]), "made_by": read_manifest(images)},
        "history": read_history(run),
    }
    write_json(path, facts)
    return path


def write_submission(path: Path, images: Path, others: Iterable[Path], notebooks: Iterable[Path] = ()) -> Path:
    """Zips what is handed in: images 00001.png … as generate/…, notebooks as notebooks/…, other files by name.

    ValueError without any image.
    """
    files = {f"generate/{png.name}": png for png in numbered(images)}
    if not files:
        text = "{images} holds no images {first} …: `python -m hwkit sample` makes them."
        raise ValueError(say(text, images=images, first=file_name(1)))
    files |= {file.name: file for file in others if not is_leftover(file.name)}
    named = ((file.name.removesuffix(".ipynb"), file) for file in notebooks if not is_leftover(file.name))
    files |= {f"notebooks/{name}.ipynb": file for name, file in named}  # some copies in Drive have no suffix
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as out:
        for name, file in files.items():
            out.write(file, name)
    return path
