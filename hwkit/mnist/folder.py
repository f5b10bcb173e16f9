"""A flat folder of RGB PNGs ↔ one uint8 tensor; and the sentence where something else is found than images."""

import contextlib
import difflib
import hashlib
import io
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from hwkit import files
from hwkit.files import is_leftover
from hwkit.language import listing, marked, say

SIDE = 28
LARGEST = 2**30  # bytes that a .zip or .gz may unpack to: MNIST has 55 million
File = Path | zipfile.Path  # on the disk, or in a .zip
WAYS_ON = {  # for files that are not read; `path` is that of each
    ".zip .tar .gz .tgz .bz2 .xz .7z .rar": marked("unpack it, and name the folder"),
    ".jpg .jpeg .bmp .gif .webp .tif .tiff": marked(
        'save them as PNG: Image.open(path).save(path.with_suffix(".png"))'
    ),
    ".npz": marked("hwkit.mnist.sources.read_source(path, whole=True).images reads it"),
    ".npy": marked('make an .npz: np.savez(path.with_suffix(".npz"), images=np.load(path))'),
    ".pt .pth": marked(
        "if it is torchvision's: x, _ = torch.load(path, weights_only=True)[:2]; "
        'np.savez(path.with_suffix(".npz"), images=x) makes an .npz'
    ),
    ".mat": marked(
        'make an .npz: x = scipy.io.loadmat(path)["data"]; '
        'np.savez(path.with_suffix(".npz"), images=x.T if len(x) == 784 else x)'
    ),
    ".csv .tsv": marked(
        'make an .npz: t = open(path, encoding="utf-8-sig").read(); '
        't = t.replace(",", ".").replace(";", ",") if ";" in t[:99] else t.replace("\\t", ","); r = t.splitlines(); '
        'named = any((",700,701," in r[0], set(r[0]) - set("0123456789.,+-e "))); '
        'x = np.loadtxt(r, "f4", delimiter=",", skiprows=int(named)); '
        'np.savez(path.with_suffix(".npz"), images=x[:, -784:] if np.ptp(x[:, 0]) else x[:, :784])'
    ),
    ".pkl .pickle": marked(
        "a pickle can run code, so only if you trust its origin, and if it holds three pairs, make an .npz: "
        '(x, _), *_, (t, _) = pickle.load(open(path, "rb"), encoding="latin1"); '
        'np.savez(path.with_suffix(".npz"), x_train=x, x_test=t)'
    ),
    ".parquet": marked(
        "make an .npz: x = pandas.read_parquet(path).image; "
        'np.savez(path.with_suffix(".npz"), images=[Image.open(io.BytesIO(i["bytes"])) for i in x])'
    ),
}


def encode_png(image: np.ndarray) -> bytes:
    """A uint8 image (1 or 3, 28, 28) as the bytes of an RGB PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.repeat(image, 3 // len(image), axis=0).transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def file_name(number: int) -> str:
    """1 → `00001.png`."""
    return f"{number:05d}.png"


def write_folder(images: np.ndarray, folder: Path, source: str) -> Path:
    """Writes what `folder` lacks of uint8 images (N, C, 28, 28), and first, in `<folder>.json`, what it is to hold."""
    record, digest = Path(f"{folder}.json"), hashlib.sha256(np.ascontiguousarray(images)).hexdigest()
    if not record.is_file() or recorded(record, "sha256") != digest:
        if folder.is_dir() and not all(map(is_leftover, os.listdir(folder))):
            text = "{folder} holds the images of another source: move it away, or choose another --out."
            raise ValueError(say(text, folder=folder))
        files.write_json(record, {"source": source, "count": len(images), "sha256": digest})
    missing = missing_images(folder, len(images))
    lock = files.only_process(folder) if missing else contextlib.nullcontext()
    with lock, tqdm(total=len(missing), unit="png", desc=f"writing {folder.name}", disable=not missing) as bar:
        for start in range(0, len(missing), 512):
            block = missing[start : start + 512]
            files.write_many(folder, {file_name(k): encode_png(images[k - 1]) for k in block})
            bar.update(len(block))
    text = (
        "Data: {count:,} images are in {folder} ({new:,} new)" if missing else "Data: {count:,} images are in {folder}"
    )
    print(say(text, count=len(images), folder=folder, new=len(missing)))
    return folder


def recorded(record: Path, what: str):
    """What the record beside a folder of images says; ValueError where another program wrote it."""
    content = files.read_json(record)
    if not isinstance(content, dict) or what not in content:
        text = "{record} is no record of this kit's: move it away, or choose another --out."
        raise ValueError(say(text, record=record))
    return content[what]


def missing_images(folder: Path, count: int) -> list[int]:
    """The numbers of the images that are not there, or empty, as a power failure leaves them."""
    found = {e.name for e in os.scandir(folder) if e.is_file() and e.stat().st_size} if folder.is_dir() else ()
    return [k for k in range(1, count + 1) if file_name(k) not in found]


class PNGFolder(list):
    """The PNGs of a flat folder, as paths by name. Other files, and what programs left, are passed over.

    Raises FileNotFoundError where there is no folder, and ValueError where it holds no PNG.
    """

    def __init__(self, folder: Path | str):
        folder = Path(os.path.abspath(files.expanded(folder)))  # "." has no name to put a cache beside
        names = [n for n in sorted(os.listdir(folder) if folder.is_dir() else ()) if n.lower().endswith(".png")]
        super().__init__(folder / name for name in names if not (name.startswith(".") or is_leftover(name)))
        if not self:
            raise refusal(folder, say("a folder of PNGs"))


def load_folder(folder: Path | str) -> Tensor:
    """All images of a `PNGFolder` as one uint8 tensor (N, 1, 28, 28), or (N, 3, 28, 28) if any has colour.

    Read once, then from a cache beside the folder, until a name, size or time changes. Raises as `PNGFolder` does, and
    ValueError for an image that is broken, not 28×28, or neither RGB nor grey.
    """
    paths = PNGFolder(folder)
    return torch.from_numpy(read_pngs(paths, paths[0].parents[1] / f".{paths[0].parent.name}.cache.npz"))


def files_in(source: Path) -> dict[str, File]:
    """What is in a folder or .zip, by its path there, but for what is hidden or a leftover; of another file, itself."""
    if source.is_dir():
        paths = [path for depth in range(1, 6) for path in source.glob("/".join("*" * depth)) if not path.is_dir()]
        found = {path.relative_to(source).as_posix(): path for path in paths}
    elif source.suffix.lower() in (".npz", ".pt", ".pth") or not (
        source.suffix.lower() == ".zip" or zipfile.is_zipfile(source)
    ):
        return {source.name: source}
    else:
        try:
            archive = zipfile.ZipFile(source)
            for member in archive.infolist():  # old packers of Windows write 0\1.png
                member.filename = member.filename.replace("\\", "/")
            archive.NameToInfo = {member.filename: member for member in archive.infolist()}
            found = {name: zipfile.Path(archive, name) for name in archive.namelist() if not name.endswith("/")}
            if (size := sum(member.file_size for member in archive.infolist())) > LARGEST:
                raise OverflowError(say("it would unpack to {size:,} bytes", size=size))
            if outside := [name for name in found if {"", ".."} & set(name.split("/"))]:
                raise ValueError(say("{name} would leave its folder", name=outside[0]))
            if damaged := archive.testzip():
                raise ValueError(say("{name} is damaged", name=damaged))
        except files.DAMAGED as error:
            text = "{source} is no .zip that can be read ({error}): take another copy of it."
            raise ValueError(say(text, source=source, error=error)) from error
    hidden = {name for name in found if any(part[:1] == "." or is_leftover(part) for part in name.split("/"))}
    if source.is_file() and found and not hidden and all(name.endswith(".npy") for name in found):
        return {f"{source.name}.npz": source}  # as a browser calls it: mnist.npz.1, mnist.npz?download=1
    return {name: found[name] for name in sorted(found.keys() - hidden)}


def read_pngs(paths: Sequence[File], cache: Path) -> np.ndarray:
    """PNGs as uint8 (N, C, 28, 28): from the file `cache`, if it is of these as they are now."""
    stats = [os.stat(getattr(path.root, "filename", path)) for path in paths]  # of a file in a .zip, the .zip's
    about = [(path.name, stat.st_size, stat.st_mtime_ns) for path, stat in zip(paths, stats, strict=True)]
    key = hashlib.sha256(repr(about).encode()).hexdigest()

    def decode() -> dict[str, np.ndarray]:
        images = np.stack([read_png(file) for file in tqdm(paths, unit="png", desc="reading", delay=1, leave=False)])
        return {"images": images if (images != images[:, :1]).any() else images[:, :1].copy()}

    return files.cached(cache, key, decode)["images"]


def read_png(path: File) -> np.ndarray:
    """One 28×28 grey or RGB image file as uint8 (3, 28, 28). Raises ValueError, with the file's name, for any other."""
    image = open_png(path)
    if image.size != (SIDE, SIDE) or image.mode not in ("RGB", "L", "1"):
        text = "{path} is {wide}×{high} pixels in mode {mode}, not 28×28 in RGB or in grey of 8 bits: {mend}"
        facts = {"wide": image.width, "high": image.height, "mode": image.mode, "mend": mend(image)}
        raise ValueError(say(text, path=path, **facts))
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def open_png(path: File) -> Image.Image:
    """An image file of any size and mode, decoded. ValueError, with its name, where that fails."""
    try:
        with warnings.catch_warnings(), path.open("rb") as file:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file)
            image.load()
            return image
    except (*files.DAMAGED, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(say("{path} does not decode as an image: replace or delete it.", path=path)) from error


def mend(image: Image.Image) -> str:
    """What to do; and where a line of Python can make the file at `path` RGB and 28×28, a colon, and that line."""
    if max(image.size) > 1_000:
        return say("make these again")
    what, code, pixels = say("convert these"), "Image.open(path)", np.asarray(image)
    if image.mode[0] in "IF":  # `convert` would clip; // 256 is exact for grey levels × 257, and for × 256
        low, high, levels = pixels.min(), pixels.max(), f"np.asarray({code})"
        if -1 <= low < -0.9 and high <= 1:
            levels = f"({levels} + 1) * 127.5"
        elif low < 0 and low > -0.2 and high < 1.2:  # as enlarging leaves it
            levels = f"np.clip({levels}, 0, 1) * 255"
        elif low < 0:
            return say("make these again, with levels from 0 to 255")
        else:
            levels += " * 255" if high <= 1 else " // 256" if high > 255 else " * 1"
        code = f"Image.fromarray(np.rint({levels}).astype(np.uint8))"
    elif "A" in image.mode or "transparency" in image.info:
        colour, alpha = np.split(np.asarray(image.convert("RGBA")).astype(int), [3], axis=2)
        if np.ptp(alpha) and ((colour > alpha).any() or not np.ptp(colour)):  # else the colours are the picture
            ground = "black" if np.ptp(colour * alpha) else "white"
            code = f'Image.alpha_composite(Image.new("RGBA", {image.size}, "{ground}"), {code}.convert("RGBA"))'
    code += '.convert("RGB")'
    if image.size != (SIDE, SIDE):
        what, fitted = _fit(image)
        if not fitted:
            return what
        code += fitted
    return f"{what}: {code}.save(path)"


def _fit(image: Image.Image) -> tuple[str, str]:
    """How an image of another size becomes 28×28, and the end of the line of Python that does it, if any can."""
    pixels, levels = np.asarray(image), np.asarray(image.convert("L"), int)
    small = image.resize((SIDE, SIDE), Image.NEAREST)
    if min(image.size) >= SIDE and (np.asarray(small.resize(image.size, Image.NEAREST)) == pixels).all():
        return say("take one pixel of each block"), ".resize((28, 28), Image.NEAREST)"
    ink = abs(levels - levels[0, 0])
    length = np.ptp(np.argwhere(ink > 64), axis=0).max() + 1 if (ink > 64).any() else 0
    left, top = (round(np.average(range(len(line)), weights=line + 1e-9)) - 14 for line in (ink.sum(0), ink.sum(1)))
    edge, frame = (image.width - SIDE) // 2, np.ones(levels.shape, bool)
    frame[edge : edge + SIDE, edge : edge + SIDE] = False
    even = edge > 0 and image.size == (SIDE + 2 * edge, SIDE + 2 * edge)
    # Between the digits of a sheet lie empty columns and empty rows, and in a strip it is long.
    runs = [np.count_nonzero(np.diff((ink > 64).any(axis).astype(int), prepend=0) == 1) for axis in (0, 1)]
    strip = min(image.size) >= SIDE and max(image.size) >= 4 * min(image.size)
    square = framed_square(ink > 64)
    if square and not even:  # a picture on a page, as plt.savefig leaves it
        what, fitted = _fit(image.crop(square))
        if not fitted:  # of many digits
            return what, ""
        return say("cut out the picture and resize it"), f".crop({square}).resize((28, 28), Image.BOX)"
    if even and not ink[frame].any() and ink[edge, edge]:  # a frame of another colour than the ground
        left = top = edge
    elif strip or (min(image.size) >= 2 * SIDE and min(runs) >= 2):
        return say("these files show many images each, or a figure; save the 28×28 pixels of each image alone"), ""
    elif abs(length - 20) >= abs(length - 20 * max(image.size) / SIDE):  # MNIST's digits are 20 pixels long
        return say("resize these"), ".resize((28, 28), Image.LANCZOS)"
    what = say("cut out 28×28 pixels")
    if even and left == top == edge:
        what = say("cut off {left} pixels on each side", left=left)
    return what, f".crop({(left, top, left + SIDE, top + SIDE)})"


def framed_square(ink: np.ndarray) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of a square whose whole edge is ink, with a page around it; None where there is none."""
    box = Image.fromarray(np.uint8(ink)).getbbox()
    if box is None or box == (0, 0, *ink.shape[::-1]):
        return None
    part = ink[box[1] : box[3], box[0] : box[2]]
    edge = all(line.all() for line in (part[0], part[-1], part[:, 0], part[:, -1]))
    return box if edge and min(part.shape) >= SIDE and abs(part.shape[0] - part.shape[1]) <= 2 else None


def refusal(path: Path, wanted: str) -> OSError | ValueError:
    """The error that says what was wanted at `path`, what is there instead, and the way on."""
    if not path.exists():
        parent, names = _around(path)
        text = "There is no {path}: {parent} is a file." if parent.exists() else "There is no {path}, nor {parent}."
        if parent.is_dir():
            text = "There is no {path}: {parent} holds {names}."
        if near := meant(path):
            text = "There is no {path}: did you mean {near}?"
        return FileNotFoundError(say(text, path=path, parent=parent, names=listed(names), near=near))
    found = files_in(path)
    kinds = Counter(Path(name).suffix.lower() or say("without a suffix") for name in found)
    holds = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(3)) + f" ({listed(found)})" * bool(found)
    way = next(
        (say(way) for ends, way in WAYS_ON.items() if kinds.keys() & set(ends.split())), say("name what holds it")
    )
    if folders := sorted({str(file.parent) for name, file in found.items() if name.lower().endswith(".png")}):
        way = say("the images are in {folders}: name that folder", folders=listed(folders))
    text = "{path} holds {holds}, but {wanted} is wanted: {way}."
    if path.is_file():
        text = "{path} is a file, but {wanted} is wanted: {way}."
    return ValueError(say(text, path=path, holds=holds or say("nothing"), wanted=wanted, way=way))


def meant(path: Path) -> Path | None:
    """Which file or folder is probably meant by a path at which there is none."""
    parent, names = _around(path)
    if not names:
        return None
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(path.relative_to(parent).parts[0].lower(), lower, 1)
    return parent / lower[near[0]] if near else None


def _around(path: Path) -> tuple[Path, list[str]]:
    """The nearest folder (or file) above a path that is there, and what is in it, but for what is hidden."""
    parent = next((p for p in path.parents if p.exists()), Path(path.anchor))  # none: a drive that is not there
    return parent, [n for n in sorted(os.listdir(parent)) if n[0] != "."] if parent.is_dir() else []


def listed(names: Collection[str]) -> str:
    """The first three."""
    return listing(names, 3) or say("nothing")
