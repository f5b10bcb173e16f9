"""One submission, from its files to the facts: what is in it is measured, none of it is run."""

import base64
import contextlib
import ctypes
import hashlib
import html
import io
import json
import re
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from hwkit.diffusion import Denoiser
from hwkit.files import DAMAGED, cached, load_npz
from hwkit.grade import pdf, provenance
from hwkit.grade.intake import DRAWN, Archive, Files, Refused, opened, picture_size, reason, shown
from hwkit.grade.provenance import Again, History, Origin, Weights
from hwkit.grade.roster import Entry
from hwkit.grade.submission import Part, Submission, Task, Traces
from hwkit.language import listing, say, sentences
from hwkit.measure import check, score
from hwkit.measure.check import COPIES, FLAT, IMAGES, Measured
from hwkit.measure.distances import KEPT, spaced
from hwkit.measure.features import DigitFeatures, InceptionFeatures, Reference, floors, reference
from hwkit.measure.memorisation import training_images
from hwkit.mnist.folder import listed
from hwkit.runs.checkpoint import EXPORTED, FAST, digest, load, load_denoiser
from hwkit.sampling import Sampler
from hwkit.show.figures import tile

OTHERS = re.compile("loss|curve|schedule|network|hist|pair|report|slider|preview|epoch")  # no grids of the diffusion
WEIGHTS = {".safetensors", ".pt", ".pth", ".ckpt"}
PAGES = {".html", ".htm", ".pdf", ".md", ".docx", ".txt", ".odt"}
READABLE = {".html", ".htm", ".md", ".txt", ".docx", ".odt"}  # of these the words are compared
OFFICE = {".docx": "word/document.xml", ".odt": "content.xml"}  # the file with the words in such an archive
SHORT, THIN = 400, 4_000  # a report with fewer letters, or a .pdf with fewer bytes, is blank
LARGEST_TEXT, LARGEST_PNG = 64 * 2**20, 2**20  # bytes
COMPARED, PDFS = 2_000_000, 3  # letters of all reports, or of all code, that are compared with others; and PDFs
WORDS, TOKENS = 6, 12  # in a row, of a report and of code: what two students do not write alike by chance
DEFAULTS = (Sampler("dpm++sde"), Sampler("unipc", 15), Sampler("ddim", 50))  # of the kit's commands
SEVERAL, FEW = 3, 4  # images like those of the kit's weights, from which on it is said; as many are made of a seed
DIM, LEVELS = 32, 16  # from which on a pixel is bright; levels of grey that tell an image from all others, at least
SHEET, GAP = 30, 128  # images shown of each submission, and the grey between them, on light and dark pages
INCEPTION_BATCH, REFERENCE, TRAIN = 8, "inception_reference.npz", "training_images.npy"
BROKEN = (*DAMAGED, RecursionError, AssertionError, ArithmeticError, LookupError, AttributeError, ImportError)


@dataclass(frozen=True)
class Settings:
    """How all submissions are examined: of plain values, as it goes to other processes."""

    images: int = 10_000  # asked for
    again: int = 20
    kit_seeds: int = 100  # 0, 1, …, with which images of the kit's weights are made to compare with
    protocol: str = "digits"
    train: str | None = None  # as `memorisation.training_images` takes it
    reference: str | None = None  # of Inception, as `features.reference` takes it
    inception: str | None = None  # the file of Inception's weights
    kit: str | None = None  # the weights that come with the kit
    functions: bool = False
    seeds: str | None = None
    secret: str = ""  # of the class: what is drawn of a submission is drawn by it too, so that nobody knows it before
    cache: str = "."  # a folder for what all submissions need


@dataclass
class Bench:
    """What a process needs for all submissions: read once."""

    settings: Settings
    train: tuple[str, np.ndarray] = ()  # as `memorisation.training_images` gives it

    def __post_init__(self):
        self.train = self.train or training_images(self.settings.train)

    @cached_property
    def digits(self) -> Reference:
        return reference(DigitFeatures())

    @cached_property
    def inception(self) -> tuple[InceptionFeatures, Reference]:
        """Inception, with few images at a time for memory; and the reference that `inception_reference` gave."""
        extractor = InceptionFeatures(self.settings.inception, "cpu", batch=INCEPTION_BATCH)
        kept = load_npz(Path(self.settings.cache) / REFERENCE)
        return extractor, Reference(str(kept["name"]), kept["mu"], kept["sigma"], kept.get("features"))

    @cached_property
    def kit(self) -> tuple[Denoiser, Mapping] | None:
        """The network that comes with the kit, and its weights; None where the kit came without."""
        path = self.settings.kit
        return (load_denoiser(path), load(path)["weights"]) if path and Path(path).is_file() else None

    @cached_property
    def fast(self) -> tuple[Path, Denoiser, Sampler] | None:
        """The kit's network that is distilled to a few steps, and its sampler; None where the kit came without."""
        path = Path(self.settings.kit or "").parent / FAST / EXPORTED
        if not path.is_file():
            return None
        denoise = load_denoiser(path)
        return path, denoise, Sampler("ddpm", denoise.steps).resolve(denoise.schedule.T)

    @cached_property
    def isolated(self):
        """The sandbox of the students' functions; NoIsolation where this machine has none."""
        from hwkit.grade.isolated import Isolated

        return Isolated()

    def close(self) -> None:
        """Ends what runs beside this process."""
        if "isolated" in self.__dict__:
            self.isolated.close()

    def kits_images(self, sampler: Sampler, seed: int, count: int) -> np.ndarray:
        """A few images of the kit's weights, uint8 (N, 3, 28, 28); kept for the next submission with this seed."""
        path, denoise = self.settings.kit, self.kit[0]
        sampler = sampler.resolve(denoise.schedule.T, denoise.guidance)
        if self.fast and sampler == self.fast[2]:
            path, denoise, _ = self.fast
        numbers = np.linspace(1, self.settings.images, count).round().astype(int).tolist()
        most = max(2, provenance.EVALUATIONS // sampler.steps)
        key = f"{digest(path)} {sampler} {seed} {numbers[:most]}"
        name = f"kit_{sampler.name}_{sampler.steps}_{sampler.eta:g}_{sampler.guidance:g}_{seed}_{count}.npz"

        def make() -> dict[str, np.ndarray]:
            return {"images": provenance.remake(denoise, sampler, seed, numbers[:most])}

        return cached(Path(self.settings.cache) / name, key, make)["images"]


def kits_images(settings: Settings) -> int:
    """Makes the images of the kit's weights that all submissions are compared with; returns how many kinds."""
    bench = Bench(settings, train=("", np.zeros((0, 28, 28), np.uint8)))
    fast = [bench.fast[2]] if bench.fast else []
    kinds = [(sampler, 0, settings.again) for sampler in (*DEFAULTS, *fast)]
    kinds += [(sampler, seed, FEW) for sampler in (DEFAULTS[0], *fast) for seed in range(1, settings.kit_seeds)]
    for kind in tqdm(kinds, unit="seed", desc="the kit's own images", delay=1, leave=False):
        bench.kits_images(*kind)
    return len(kinds)


def inception_reference(settings: Settings) -> dict[str, np.ndarray]:
    """What Inception's FID is measured against, as arrays to be kept as REFERENCE; `key` is a hash of all that.

    Raises as `InceptionFeatures` and `reference` do: FileNotFoundError where weights or reference are not there.
    """
    extractor = InceptionFeatures(settings.inception, "cpu", batch=INCEPTION_BATCH)
    found = reference(extractor, settings.reference)
    key = hashlib.sha256(extractor.weights_sha256.encode() + found.mu.tobytes() + found.sigma.tobytes()).hexdigest()
    arrays = {"key": np.array(key), "name": np.array(found.name), "mu": found.mu, "sigma": found.sigma}
    return arrays if found.features is None else arrays | {"features": found.features}


@dataclass
class Looked:
    """What the check has read and measured on its way, for who needs it too."""

    names: list[str] = field(default_factory=list)
    stack: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, 28, 28), np.uint8))
    found: Measured | None = None

    def measure(self, names: list[str], stack: np.ndarray, train: tuple) -> Measured:
        self.names, self.stack, self.found = names, stack, check.measured(names, stack, train)
        return self.found


@dataclass(frozen=True)
class InMemory:
    """A file whose bytes were read, as far as `open_png` needs one."""

    name: str
    data: bytes

    def open(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self.data)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Layout:
    """Which file of a submission is what."""

    folder: str  # that holds the images, "" for the top
    images: dict[str, str]  # name in the submission → name below that folder
    grids: dict[str, str]  # ddpm, ddim → name
    report: str
    weights: list[str]
    facts: str  # run.json
    manifest: str  # generate.json
    history: str  # history.jsonl
    code: list[str]
    texts: list[str]


def layout(files: Files) -> Layout:
    """Finds the images and the rest by their names, wherever they lie."""
    pictures = [n for n in files.sizes if suffix(n) in IMAGES]
    numbered = [n for n in pictures if not DRAWN.search(PurePosixPath(n).stem)]
    count = Counter(str(PurePosixPath(n).parent) for n in numbered)
    named = {folder: PurePosixPath(folder).name.lower().startswith("generate") for folder in count}
    best = max(count, key=lambda f: (count[f] >= 10 or named[f], named[f], count[f], -len(f)), default=".")
    folder = "" if best == "." else f"{best}/"
    images_too, drawn = set(numbered), [n for n in pictures if DRAWN.search(PurePosixPath(n).stem)]
    rest = [n for n in files.sizes if n not in images_too]
    weights = sorted((n for n in rest if suffix(n) in WEIGHTS), key=lambda n: ("ema" not in n.lower(), n))
    code = [n for n in rest if suffix(n) in (".ipynb", ".py")]
    code.sort(key=lambda n: (suffix(n) != ".ipynb", n.count("/"), n))
    pages = [n for n in rest if suffix(n) in PAGES and "slider" not in n.lower() and "readme" not in n.lower()]
    pages.sort(key=lambda n: ("report" not in n.lower(), suffix(n) not in (".html", ".pdf"), n))
    known = {*weights, *code, *pages}
    facts, manifest, history = (
        min((n for n in rest if PurePosixPath(n).name.lower() == name), key=len, default="")
        for name in ("run.json", "generate.json", "history.jsonl")
    )
    known |= {facts, manifest, history, *drawn, *(n for n in rest if suffix(n) in (".css", ".js", ".json", ".jsonl"))}
    images = {n: n.removeprefix(folder) for n in files.sizes if n.startswith(folder) and n not in known}
    if not folder:  # with all else at the top: other folders are not the images'
        images = {n: below for n, below in images.items() if "/" not in below}
    grids = {kind: grid(kind, [n for n in pictures if n not in images]) for kind in ("ddpm", "ddim")}
    texts = [n for n in pages if suffix(n) in READABLE or (suffix(n) == ".pdf" and pdf.is_installed())]
    report = pages[0] if pages else ""
    return Layout(folder, images, grids, report, weights, facts, manifest, history, code, texts)


def grid(kind: str, pictures: Sequence[str]) -> str:
    """The figure of `kind`, ddpm or ddim: by its own name, or its folder's where it may be of the diffusion; or ""."""
    stems = {n: PurePosixPath(n).stem.lower() for n in pictures}
    fits = [n for n, stem in stems.items() if kind in stem]
    above = {n: PurePosixPath(n.lower()).parent for n in pictures}
    inside = [n for n, folder in above.items() if kind in folder.name or kind in folder.parts]
    fits = fits or [n for n in inside if DRAWN.search(stems[n]) and not OTHERS.search(stems[n])]
    ranks = {n: ("grid" not in s, bool(OTHERS.search(s)), not DRAWN.search(s), len(n)) for n, s in stems.items()}
    return min(fits, key=ranks.__getitem__, default="")


def examine(entry: Entry, bench: Bench, fingerprint: str = "", key: str = "") -> tuple[Submission, Traces]:
    """The facts about a submission. Never raises for what is in it: what went wrong is in `failed` or `problems`."""
    started = time.monotonic()
    found, traces = Submission(id=entry.id, fingerprint=fingerprint, key=key), Traces.none()
    if entry.path is None:
        return replace(found, failed=say("Nothing was handed in.")), traces
    try:
        files = opened(entry.path)
    except (*BROKEN, Refused) as error:
        return replace(found, failed=str(error) or type(error).__name__, seconds=time.monotonic() - started), traces
    if not files.sizes:
        said = sentences(say("It holds no file that could be read."), *files.problems[:5])
        return replace(found, failed=said, seconds=time.monotonic() - started), traces
    broken, place = [], bench.settings.cache  # where the next grading deletes what a killed one left
    with tempfile.TemporaryDirectory(".partial", ".scratch.", place, ignore_cleanup_errors=True) as scratch:
        work = Work(entry.id, fingerprint, bench, files, Path(scratch), layout(files))
        facts: dict = {}
        for step in (work.pictures, work.quality, work.parts, work.provenance, work.functions, work.recognised):
            try:
                facts |= step()
            except (*BROKEN, Refused) as error:
                said = "A part of the examination broke off ({part}: {why})."
                broken.append(say(said, part=step.__name__, why=reason(error)))
            give_back()
        traces = work.traces()
    files.problems[:0] = broken
    facts["known"] = (*facts.get("known", ()), *((said, (), "not tested") for said in broken))
    problems = tuple(files.problems[:20])
    if len(files.problems) > 20:
        problems += (say("{count:,} more problems of this kind.", count=len(files.problems) - 20),)
    if facts.get("untried") or broken:  # for which the machine may be to blame: a full disk, too little memory
        found = replace(found, key="")  # it is tried again the next time
    return replace(found, **facts, problems=problems, seconds=round(time.monotonic() - started, 2)), traces


def give_back() -> None:
    """Hands free memory back to the system, where the C library can: it would keep what each step took."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@dataclass
class Work:
    """A submission while it is examined: each method gives some of the facts."""

    id: str
    fingerprint: str
    bench: Bench
    files: Files
    scratch: Path
    layout: Layout
    looked: Looked = field(default_factory=Looked)
    denoise: Denoiser | None = None
    made: Origin = Origin(trouble="-")

    # The images

    def pictures(self) -> dict:
        """The check of the images, as of a folder that has been unpacked."""
        below = self.layout.images
        names = [name for name in below.values() if "/" not in name]
        subfolders = sorted({name.split("/")[0] for name in below.values() if "/" in name})
        pictures = [name for name in below.values() if suffix(name) in IMAGES]
        direct, inner = set(pictures) & set(names), sorted({n.rsplit("/", 1)[0] for n in pictures if "/" in n})
        images = {own: InMemory(own, self.picture(name)) for name, own in below.items() if own in direct}
        count, train = self.bench.settings.images, self.bench.train
        rows = tuple(check.table(names, images, subfolders, inner, count, train, self.looked.measure))
        found = {"rows": rows, "folder": self.layout.folder, "images": len(self.looked.names)}
        if self.looked.found:
            copies, _, features = self.looked.found
            found |= {"near_copies": copies.near_copies, "classes": classes(features)}
            found["sheet"] = png(tile(spaced(self.looked.stack, SHEET), 10, background=GAP))
        return found

    def picture(self, name: str) -> bytes:
        """The bytes of an image; none where it is not to be decoded."""
        try:
            data = self.files.read(name, LARGEST_PNG)
            picture_size(data)
            return data
        except Refused as error:
            said = str(error)
            self.files.problems.append(said if said.startswith(shown(name)) else f"{shown(name)}: {said}.")
            return b""

    def copied(self, pairs) -> tuple:
        """Images of the training set among these, with the pictures, where there are more than chance gives."""
        share, same = self.looked.found.copies.near_copies, int((pairs.distances < 0.05).sum())
        if not same and round(share * len(self.looked.stack)) <= max(2, int(COPIES * len(self.looked.stack))):
            return ()
        shown_pairs = [beside(a, b) for a, b in zip(pairs.images[:6], pairs.nearest[:6], strict=True)]
        said = say(
            "{share:.1%} of the images come as near to a training digit as only 0.1 % of unseen real digits do.",
            share=share,
        )
        if same:
            said = sentences(said, say("Of the ten nearest, {same} are training digits, pixel by pixel.", same=same))
        return ((said, tuple(shown_pairs), "training digits"),)

    def quality(self) -> dict:
        """FID, KID, precision and recall, and what as many real digits score."""
        if not self.looked.found or len(self.looked.stack) < 4:
            return {}
        count = len(self.looked.stack)
        numbers = {"digits": score.numbers(self.looked.found.features, self.bench.digits)}
        numbers["digits"]["floor"] = score.floor_at(count)
        if count >= KEPT:  # with fewer images both are others
            real = floors()["test-vs-train"]
            numbers["digits"] |= {f"floor_{what}": real[what] for what in ("precision", "recall")}
        if self.bench.settings.protocol == "inception":
            extractor, against = self.bench.inception
            features = extractor(self.looked.stack).astype(np.float32)  # as it made them: half the memory
            numbers["inception"] = score.numbers(features, against)
        return {"numbers": {name: {k: float(v) for k, v in values.items()} for name, values in numbers.items()}}

    # What else is asked for

    def parts(self) -> dict:
        """Both figures and the report: there, and not blank."""
        grids = {}
        for kind, name in self.layout.grids.items():
            fault = self.blank_picture(name) if name else say("There is no figure whose name says {kind}.", kind=kind)
            grids[kind] = Part(name, fault)
        name = self.layout.report
        return {"grids": grids, "report": Part(name, self.blank_report(name) if name else say("There is no report."))}

    def blank_picture(self, name: str) -> str:
        try:
            data = self.files.read(name, LARGEST_TEXT)
            picture_size(data)
            with Image.open(io.BytesIO(data)) as image:
                grey = np.asarray(image.convert("L"))
        except (*DAMAGED, Image.DecompressionBombError) as error:
            return say("{name} cannot be looked at: {why}.", name=shown(name), why=reason(error))
        if min(grey.shape) < 100:
            said = "{name} has only {width}×{height} pixels: no eight rows can be seen in it."
            return say(said, name=shown(name), width=grey.shape[1], height=grey.shape[0])
        most = np.bincount(grey.ravel(), minlength=256).max()
        blank = most > 0.995 * grey.size or np.ptp(grey) < FLAT
        return say("{name} is blank.", name=shown(name)) if blank else ""

    def blank_report(self, name: str) -> str:
        try:
            data = self.files.read(name, LARGEST_TEXT)
        except Refused as error:
            return str(error)
        if suffix(name) == ".pdf":
            said = "{name} is blank, or no {kind}."
            return "" if data[:4] == b"%PDF" and len(data) >= THIN else say(said, name=shown(name), kind="pdf")
        try:
            letters = sum(map(str.isalnum, readable(name, data)))
        except Refused as error:
            return str(error)
        said = "{name} is nearly blank: {letters} letters, fewer than {least}."
        return "" if letters >= SHORT else say(said, name=shown(name), letters=letters, least=SHORT)

    def json(self, name: str):
        """What a JSON file holds, None where there is none that can be read."""
        if not name:
            return None
        try:
            return json.loads(self.files.read(name, LARGEST_TEXT))
        except (ValueError, RecursionError) as error:
            said = "{name} is no JSON that can be read ({why})."
            self.files.problems.append(say(said, name=shown(name), why=reason(error)))
            return None

    # Where the images come from

    def provenance(self) -> dict:
        """Weights, images made again from them, and the history."""
        facts, manifest = self.json(self.layout.facts), self.json(self.layout.manifest)
        self.made = made = provenance.origin(facts, manifest)
        weights = self.weights(facts)
        numbered = {int(name[:5]): i for i, name in enumerate(self.looked.names) if re.fullmatch(r"\d{5}\.png", name)}
        pictures = {k: self.looked.stack[i] for k, i in numbered.items()}
        if self.denoise:
            drawn_by = f"{self.bench.settings.secret} {self.fingerprint}"
            again = provenance.again(self.denoise, made, pictures, self.bench.settings.again, drawn_by)
        else:
            again = Again(trouble=weights.trouble or say("No weights were handed in."))
        text = self.files.read(self.layout.history, LARGEST_TEXT) if self.layout.history else None
        lines, faults = provenance.read_history(text, facts)
        whole = len(self.looked.names) == self.bench.settings.images and not made.trouble
        sha = score.images_sha256([self.looked.stack]) if whole else ""
        faults += provenance.contradictions(lines, facts)
        faults += provenance.disagreements(facts, weights, sha, made, again)
        seed = f"{made.sampler}, seed {made.seed}" if made.sampler else ""
        history = History(len(lines), tuple(faults))
        return {"weights": weights, "again": again, "history": history, "seed": seed}

    def weights(self, facts) -> Weights:
        """The weights that `run.json` or `generate.json` names, else the first that a network can be built from."""
        named = facts.get("weights") if isinstance(facts, Mapping) else None
        wanted = (named.get("sha256") if isinstance(named, Mapping) else None) or self.made.checkpoint_sha256
        found = Weights(trouble=say("No weights were handed in."))
        for number, name in enumerate(self.layout.weights[:4]):
            path = self.scratch / f"weights_{number}{suffix(name) if suffix(name) == '.safetensors' else '.pt'}"
            try:
                path.write_bytes(self.files.read(name))
            except Refused as error:
                found = found if found.file else Weights(name, trouble=str(error))
                continue
            weights, denoise = provenance.read_weights(path, shown(name))
            if not found.file or (found.trouble and not weights.trouble) or weights.sha256 == wanted:
                found, self.denoise = weights, denoise
            if weights.sha256 == wanted:
                break
        return found

    def functions(self) -> dict:
        """The student's own functions, tried in a sandbox; only where that was asked for."""
        if not self.bench.settings.functions:
            return {}
        from hwkit.grade.functions import grade_functions
        from hwkit.grade.isolated import NoIsolation

        notebooks, seeds = self.notebooks(), self.bench.settings.seeds
        try:
            found = grade_functions(notebooks, Path(seeds) if seeds else None, self.bench.isolated)
        except NoIsolation as error:
            return {"untried": str(error)}
        return {"tasks": tuple(Task(str(r.number), bool(r.passed), str(r.text)) for r in found.values())}

    def notebooks(self) -> list[bytes]:
        """Those that can be read; one that cannot is a problem, and takes nothing from the others."""
        found = []
        for name in self.layout.code:
            if suffix(name) == ".ipynb":
                try:
                    found.append(self.files.read(name, LARGEST_TEXT))
                except Refused as error:
                    self.files.problems.append(str(error))
        return found

    # What is known already

    def recognised(self) -> dict:
        """Weights and images that come with the kit, beside the copies that `pictures` found."""
        known = self.copied(self.looked.found.pairs) if self.looked.found else ()
        known += self.kits_weights() + self.kits_pictures() if self.bench.kit else ()
        left_out = [shown(name) for _, cut in self.compared for name in cut]
        if left_out:
            said = "Not all was compared with others' ({names}): it holds more than {most:,} letters or {pdfs} PDFs."
            known += ((say(said, most=COMPARED, pdfs=PDFS, names=listed(left_out)), (), "not tested"),)
        return {"known": known}

    @cached_property
    def compared(self) -> tuple[tuple[list[str], list[str]], ...]:
        """The reports and the code as `compared` gives them."""
        return compared(self.files, self.layout.texts), compared(self.files, self.layout.code)

    def kits_weights(self) -> tuple:
        if self.denoise is None:
            return ()
        far = provenance.distance(self.denoise.model.state_dict(), self.bench.kit[1])
        if far is None or far > 0.5:
            return ()
        said = "The weights are those that come with the kit."
        if far >= 1e-3:
            said = (
                "The weights lie near those that come with the kit: the difference has {far:.1%} of the length of "
                "those; that of two trainings has 100 % or more."
            )
        return ((say(said, far=far), (), "kit's weights"),)

    def kits_pictures(self) -> tuple:
        """Images that the kit's weights make: as the submission says, by the kit's defaults, or with likely seeds."""
        T, guidance = self.bench.kit[0].schedule.T, self.bench.kit[0].guidance
        settings, kinds, found = self.bench.settings, {}, []
        if self.made.sampler:
            with contextlib.suppress(ValueError, TypeError):  # one that is none hides nothing: the others are tried
                kinds[self.made.sampler.resolve(T, guidance), self.made.seed] = settings.again
        usual, *others = (sampler.resolve(T, guidance) for sampler in DEFAULTS)
        fast = [self.bench.fast[2]] if self.bench.fast else []
        for sampler in (usual, *others, *fast):
            kinds.setdefault((sampler, 0), settings.again)
        for seed in (*range(settings.kit_seeds), *likely_seeds(self.id)):
            for sampler in (usual, *fast):
                kinds.setdefault((sampler, seed), FEW)
        if not len(self.looked.stack):
            return ()
        own = thumbnails(self.looked.stack)
        places = {value: j for j, value in enumerate(strokes(self.looked.stack).tolist()) if value}
        for (sampler, seed), count in kinds.items():
            kits = self.bench.kits_images(sampler, seed, count)
            likely = enumerate(zip(closest(thumbnails(kits), own), strokes(kits).tolist(), strict=True))
            pairs = [(i, places.get(value, near)) for i, (near, value) in likely]
            pairs = [(i, j) for i, j in pairs if any(fit(kits[i], self.looked.stack[j]) for fit in (alike, is_moved))]
            if len(pairs) >= min(SEVERAL, len(kits)):
                said = (
                    "{count} of {all} images that the kit's weights make ({sampler}, seed {seed}) are in it, such as "
                    "{names}."
                )
                facts = {"count": len(pairs), "all": len(kits), "sampler": sampler, "seed": seed}
                said = say(said, **facts, names=listing(self.looked.names[j] for _, j in pairs[:3]))
                pictures = tuple(beside(self.looked.stack[j], kits[i]) for i, j in pairs[:6])
                found.append((said, pictures, "kit's images"))
        return tuple(found)

    def traces(self) -> Traces:
        """What this submission may be recognised by in another one."""
        stack = self.looked.stack
        (texts, _), (sources, _) = self.compared
        words = [value for text in texts for value in shingles(words_of(text), WORDS)]
        code = [value for source in sources for value in shingles(tokens_of(source), TOKENS)]
        names = np.array([name.encode() for name in self.looked.names], "S")
        return Traces(names, hashes(stack), strokes(stack), thumbnails(stack), unique(words), unique(code))


# Pictures


def hashes(stack: np.ndarray) -> np.ndarray:
    """A number for each uint8 image (N, 3, 28, 28), uint64 (N,), equal for equal pixels; 0 of a blank one only."""
    factors = np.random.default_rng(0).integers(1, 2**63, 3 * 28 * 28, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    found = np.zeros(len(stack), np.uint64)
    for start in range(0, len(stack), 500):
        block = stack[start : start + 500].reshape(-1, 3 * 28 * 28)
        sums = (block * factors).sum(axis=1, dtype=np.uint64) | np.uint64(1)
        found[start : start + 500] = sums * (np.ptp(block, axis=1) >= FLAT)
    return found


def strokes(stack: np.ndarray) -> np.ndarray:
    """A number for what bright pixels an image has, wherever they lie, uint64 (N,), of uint8 (N, 3, 28, 28).

    It stays when an image is mirrored, turned by quarters, shifted, or faint in the background. 0 where an image has so
    few levels of grey that others may have the same: of MNIST's 70,000 digits 14 then shared one, of the rest none.
    """
    factors = np.random.default_rng(1).integers(1, 2**63, 766, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    found, own = np.zeros(len(stack), np.uint64), 766 * np.arange(500)[:, None]  # a place for each image and level
    for start in range(0, len(stack), 500):
        block = bright(stack[start : start + 500]).reshape(-1, 28 * 28)
        counts = np.bincount((block + own[: len(block)]).ravel(), minlength=766 * len(block)).reshape(-1, 766)[:, 1:]
        sums = (counts.astype(np.uint64) * factors[1:]).sum(axis=1, dtype=np.uint64) | np.uint64(1)
        found[start : start + 500] = sums * ((counts > 0).sum(axis=1) >= LEVELS)
    return found


def bright(images: np.ndarray) -> np.ndarray:
    """The sum of the channels of uint8 (…, 3, 28, 28) where an image is bright, else 0: (…, 28, 28)."""
    sums = images.sum(axis=-3, dtype=np.int64)
    return sums * (sums >= 3 * DIM)


def is_moved(image: np.ndarray, other: np.ndarray) -> bool:
    """Whether one of two uint8 images (3, 28, 28) is the other mirrored, turned by quarters or shifted."""
    one, two = framed(image), framed(other)
    ways = [np.rot90(side, quarters) for side in (two, two[:, ::-1]) for quarters in range(4)]
    return one.size > 0 and any(np.array_equal(one, way) for way in ways)


def framed(image: np.ndarray) -> np.ndarray:
    """The bright pixels of an image, cut to the frame about them."""
    pixels = bright(image)
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] if len(rows) else pixels[:0]


def thumbnails(stack: np.ndarray) -> np.ndarray:
    """uint8 images (N, 3, 28, 28) → uint8 (N, 49): the means of 4×4 pixels in all channels."""
    return stack.reshape(-1, 3, 7, 4, 7, 4).mean((1, 3, 5), np.float32).round().astype(np.uint8).reshape(-1, 49)


def closest(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """For each thumbnail of (N, 49) the index of the nearest in (M, 49)."""
    x, y = rows.astype(np.float32), others.astype(np.float32)  # exact: no sum of 49 squares exceeds 24 bits
    return ((y**2).sum(axis=1) - 2 * (x @ y.T)).argmin(axis=1)


def likely_seeds(student: str) -> list[int]:
    """The seeds that a student number suggests: its last 2, 3, 4, 5 and 6 digits, and the whole."""
    digits = max(re.findall(r"[0-9]+", student), key=len, default="")
    return list(dict.fromkeys(int(digits[-count:]) for count in (2, 3, 4, 5, 6, 18) if digits))


def alike(image: np.ndarray, other: np.ndarray) -> bool:
    """Whether two uint8 images (3, 28, 28) are equal but for some pixels, as the check's duplicates are."""
    apart = np.abs(image.astype(np.int16) - other).max(axis=0)
    return bool((apart > check.ALIKE).sum() <= check.ALIKE and np.ptp(image) >= FLAT)


def classes(features: np.ndarray) -> tuple[int, ...]:
    return tuple(np.bincount(check.classify(features), minlength=11).tolist())


def beside(image: np.ndarray, other: np.ndarray) -> str:
    """Two images, (28, 28) or (3, 28, 28), side by side: a PNG in base64."""
    pair = [np.broadcast_to(picture, (3, 28, 28)) for picture in (image, other)]
    return png(tile(np.stack(pair), 2, background=GAP))


def png(pixels: np.ndarray) -> str:
    """uint8 (H, W, 3) as a PNG in base64."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


# Words


def compared(files: Files, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is compared of these files with others' (at most COMPARED letters), and the names of those left out or cut.

    However much is put before a copy, it is there: in the other's words, or in what a person is told to look at.
    """
    texts, cut, left, pdfs = [], [], COMPARED, PDFS
    for name in names:
        is_pdf = suffix(name) == ".pdf"
        if left <= 0 or (is_pdf and not pdfs):
            cut.append(name)
            continue
        pdfs -= is_pdf
        try:
            text = readable(name, files.read(name, LARGEST_TEXT))
        except Refused as error:
            files.problems.append(str(error))
            continue
        texts.append(text[:left])
        cut += [name] * (len(text) > left)
        left -= len(text)
    return texts, cut


def readable(name: str, data: bytes) -> str:
    """The words of a page, PDF or office file, or the code of a notebook or script. Refused where one gives none."""
    if suffix(name) == ".pdf":
        try:
            return pdf.words(data)
        except ValueError as error:
            said = "{name}: no words could be read in it, so they are not compared with others'."
            raise Refused(say(said, name=shown(name))) from error
    if suffix(name) in OFFICE:
        try:
            text = Archive(data).read(OFFICE[suffix(name)], LARGEST_TEXT).decode("utf-8", errors="replace")
        except (Refused, KeyError) as error:
            said = "{name} is blank, or no {kind}."
            raise Refused(say(said, name=shown(name), kind=suffix(name)[1:])) from error
        return html.unescape(re.sub(r"<[^<>]*>", "", re.sub(r"</(?:w|text):(?:p|h)>", "\n", text)))
    text = data.decode("utf-8", errors="replace")
    if suffix(name) in (".html", ".htm"):
        return html.unescape(re.sub(r"<[^<>]*>", " ", without_hidden(text)))
    if suffix(name) != ".ipynb":
        return text
    try:
        cells = json.loads(text)["cells"]
        sources = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
        return "\n".join("".join(source) for source in sources)
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def without_hidden(text: str) -> str:
    """A page without its scripts, styles and drawings; in one pass, however its tags are nested or left open."""
    kept, hidden = [], ""
    for piece in re.split(r"(?i)(</?(?:script|style|svg|head)\b)", text):
        tag = piece[:8].lower()
        if not hidden and tag in ("<script", "<style", "<svg", "<head"):
            hidden = f"</{tag[1:]}"
        elif hidden and tag == hidden:
            hidden = ""
            kept.append("<")  # of what follows, the end of the tag
        elif not hidden:
            kept.append(piece)
    return "".join(kept)


def words_of(text: str) -> list[str]:
    """Small letters; a Chinese character is a word of its own; numbers are left out, which differ in equal pages.

    So are signs that nobody sees, and letters in another dress are the letters: else equal pages would differ by them.
    """
    text = "".join(sign for sign in unicodedata.normalize("NFKC", text) if unicodedata.category(sign) != "Cf")
    return re.findall(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+", text.lower())


def tokens_of(text: str) -> list[str]:
    """Names, numbers and signs of code, without comments."""
    return re.findall(r"\w+|[^\w\s]", re.sub(r"#.*", "", text))


def shingles(words: list[str], size: int) -> list[int]:
    """A hash of each run of `size` words."""
    return [stable_hash(" ".join(words[i : i + size])) for i in range(len(words) - size + 1)]


def stable_hash(text: str) -> int:
    """The same in each process, unlike `hash`."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little")


def unique(values: list[int]) -> np.ndarray:
    return np.unique(np.array(values, np.uint64))


def suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
