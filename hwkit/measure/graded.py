"""The graded number: what `python -m pytorch_fid REAL FAKE` itself prints, and a record of what it was run on."""

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hwkit.files import write_bytes, write_json
from hwkit.language import say, sentences
from hwkit.measure.features import InceptionFeatures, inception_weights
from hwkit.measure.score import Record, images_sha256, results_of
from hwkit.mnist.folder import load_folder
from hwkit.runs.checkpoint import digest

REAL_IMAGES = 60_000  # MNIST's training digits, against which the homework measures


@dataclass(frozen=True)
class Graded(Record):
    """A command and its answer."""

    command: str
    output: str  # such as "FID:  1.66"
    images: int
    images_sha256: str  # of the images that were measured
    official: bool  # whether the Inception weights were the published ones

    @classmethod
    def from_json(cls, content: dict) -> "Graded":
        """The record that `to_json` gave. Other content raises what `read` puts in words."""
        return cls(**content)


def pytorch_fid(*arguments: Path | str) -> tuple[str, str]:
    """Runs `python -m pytorch_fid` with these arguments; the command, and what it printed.

    Its weights are taken as `features.InceptionFeatures` takes them, which raises FileNotFoundError where there are
    none to be had. ValueError, with pytorch-fid's last line, where it fails.
    """
    from pytorch_fid.inception import FID_WEIGHTS_URL

    weights, words = inception_weights(), [str(argument) for argument in arguments]
    with tempfile.TemporaryDirectory() as home:  # where torch.hub finds the weights, wherever they are
        write_bytes(Path(home, "hub", "checkpoints", Path(FID_WEIGHTS_URL).name), weights.read_bytes())
        whole = [sys.executable, "-m", "pytorch_fid", *words]
        done = subprocess.run(whole, env={**os.environ, "TORCH_HOME": home}, stdout=-1, stderr=-1, text=True)
    command = " ".join(["python -m pytorch_fid", *words])
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [say("exit code {code}", code=done.returncode)])[-1]
        text = "{command} failed: {why}."
        hint = say("pytorch-fid 0.3.0 needs an older SciPy: pip install 'scipy<1.18'.") if "disp" in why else ""
        raise ValueError(sentences(say(text, command=command, why=why), hint))
    return command, "\n".join(line.strip() for line in done.stdout.splitlines() if line.strip())


def grade(real: Path, images: Path) -> Graded:
    """The homework's FID of a folder of PNGs, kept beside it as graded.json. Raises as `pytorch_fid` does.

    real: the folder of MNIST's 60,000 training digits, or the .npz that `pytorch_fid("--save-stats", real, npz)` wrote.
    """
    command, output = pytorch_fid(real, images)
    line = re.search(r"^FID:.*", output, re.M)
    if not line:
        text = "{command} printed no FID, but: {output}"
        raise ValueError(say(text, command=command, output=output))
    pixels = load_folder(images)
    official = digest(inception_weights()).startswith(InceptionFeatures.official)
    found = Graded(command, line[0], len(pixels), images_sha256([pixels]), official)
    write_json(results_of(images) / "graded.json", found.to_json())
    return found


def read_graded(images: Path) -> Graded | None:
    """What `grade` has found of the images as they are now; else None. ValueError where its file is damaged."""
    path = results_of(images) / "graded.json"
    found = Graded.read(path) if path.is_file() else None
    return found if found and found.images_sha256 == images_sha256([load_folder(images)]) else None
