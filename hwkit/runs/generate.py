"""N images into a folder, resumable, with a seed for each image."""

import contextlib
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from hwkit.diffusion import Denoiser
from hwkit.files import is_leftover, only_process, read_json, write_json, write_many
from hwkit.language import listing, say
from hwkit.mnist.batches import to_uint8
from hwkit.mnist.folder import encode_png, file_name
from hwkit.runs.checkpoint import OWN, best_of, digest, load_denoiser, versions
from hwkit.runs.processes import processes
from hwkit.runs.speed import quickest_precision
from hwkit.sampling import Sampler, spacing, trajectory
from hwkit.training import autocast

MADE_BY = {"checkpoint", "checkpoint_sha256", "sampler", "seed"}  # what a manifest says of its images


def images(
    denoise: Denoiser,
    sampler: Sampler,
    seed: int,
    numbers: Sequence[int],
    device: torch.device | str = "cpu",
    device_noise: bool = False,
    precision: str = "fp32",
) -> Tensor:
    """Images `numbers` of the run `seed`: uint8 (B, 3, 28, 28) on the CPU.

    Image k depends on (seed, k) alone. With `device_noise` the steps' fresh noise is drawn on the device, for all
    images together: quicker on a GPU, but image k then depends on the others of its batch too. precision: of the
    network's convolutions (see `training.autocast`); in bf16 the batch changes an image by its rounding.
    """
    fresh = None
    if device_noise:
        state = np.random.SeedSequence([seed, *numbers]).generate_state(1)
        generator = torch.Generator(device).manual_seed(int(state[0]))
        fresh = partial(torch.randn, len(numbers), 3, 28, 28, generator=generator, device=device)
    frames = trajectory(denoise, sampler, seed, numbers, device, fresh=fresh)
    with autocast(torch.device(device), precision):
        (last,) = deque(frames, maxlen=1)  # keeps no earlier frame
    return to_uint8(last.x_t).cpu()


def side_by_side(make: Callable[[range], Tensor], blocks: Sequence[range], denoise: Denoiser) -> Iterator[Tensor]:
    """make(block) of each block, in order; on a CPU one thread a block, as many blocks at once as torch has threads.

    That is quicker than all threads on one block after the other, and no pixel depends on the number of cores. Where
    the iteration is left early (Ctrl-C, a full disk), the blocks that were begun end at the network's next call.
    """
    threads = torch.get_num_threads()
    if threads == 1 or next(denoise.model.parameters()).device.type != "cpu":
        yield from map(make, blocks)
        return
    left = threading.Event()

    def leave(*_) -> None:
        if left.is_set():
            raise InterruptedError

    hook = denoise.model.register_forward_pre_hook(leave)
    torch.set_num_threads(1)  # of this thread, and of those that begin from now on
    try:
        with ThreadPoolExecutor(threads) as pool:
            try:
                yield from pool.map(make, blocks)
            finally:
                left.set()
    finally:
        torch.set_num_threads(threads)
        hook.remove()


def generate(
    checkpoint: Path | str,
    folder: Path | str,
    n: int = 10_000,
    sampler: Sampler = Sampler(),
    seed: int = 0,
    batch: int = 100,
    device: torch.device | str = "cpu",
    device_noise: bool = False,
    precision: str = "fp32",
    progress: bool = True,
) -> int:
    """Writes images 1 … n as `00001.png` … into the flat folder, those that are missing, and returns how many were.

    Images are made in blocks of `batch` that always begin at the same numbers, so an interrupted folder ends with the
    same bytes as an undisturbed one (with another batch: up to rounding). `<folder>.json`, beside it, says what made
    them. precision: fp32, bf16, fp16, or auto: that of the images which are there, else the quickest here.
    Under `accelerate launch` the processes share the blocks; the folder is the same.
    Raises ValueError for n < 1, for a folder with other files, or with images of another checkpoint, sampler or seed.
    """
    folder = Path(os.path.abspath(folder))  # "." has no name to put a manifest beside
    path = best_of(Path(checkpoint)) if Path(checkpoint).is_dir() else Path(checkpoint)
    if not 1 <= n <= 99_999:
        text = "--n is {n}, but must be between 1 and 99,999 (file names have five digits)."
        raise ValueError(say(text, n=n))
    for name, value, least in (("batch", batch, 1), ("seed", seed, 0)):
        if value < least:
            text = "--{flag} is {value}, but must be at least {least}."
            raise ValueError(say(text, flag=name, value=value, least=least))
    world = processes(torch.device(device).type)
    denoise = load_denoiser(path, device)
    sampler = sampler.resolve(denoise.schedule.T, denoise.guidance)
    manifest = {"checkpoint": path.name, "checkpoint_sha256": digest(path), "sampler": asdict(sampler), "seed": seed}
    manifest |= {"batch": batch, "device_noise": device_noise, "versions": versions(), "precision": precision}
    with contextlib.ExitStack() as lock:
        world.on_first(lambda: lock.enter_context(only_process(folder)))
        before = world.on_first(lambda: (read_manifest(folder) or {}) if numbered(folder) else None)
        if precision == "auto":
            precision = world.on_first(
                lambda: before.get("precision", "fp32") if before else quickest_precision(denoise, device)
            )
            manifest["precision"] = precision
        begun = None if before is None else before.get("own", [])
        manifest |= {"own": begun} if begun else {}
        present = world.on_first(lambda: claim(folder, manifest, n))
        missing = [k for k in range(1, n + 1) if k not in present]
        blocks = sorted({(k - 1) // batch for k in missing})[world.rank :: world.count]
        share = len(present) + sum((k - 1) // batch in blocks for k in missing)
        silent = not progress or world.rank > 0
        with tqdm(total=share, initial=len(present), unit="image", desc=str(sampler), disable=silent) as bar:
            ranges = [range(index * batch + 1, min((index + 1) * batch, n) + 1) for index in blocks]
            options = {"device": device, "device_noise": device_noise, "precision": precision}
            make = partial(images, denoise, sampler, seed, **options)
            made = lock.enter_context(contextlib.closing(side_by_side(make, ranges, denoise)))
            for block, pictures in zip(ranges, made, strict=True):
                new = {file_name(k): encode_png(pictures[i].numpy()) for i, k in enumerate(block) if k not in present}
                write_many(folder, new)
                if world.rank == 0:
                    note_own(folder, manifest, begun)
                bar.update(len(new))
        with world.guarded():
            world.sum([0.0])  # when all are done
    return len(missing)


def note_own(folder: Path, manifest: dict, begun: list[str] | None) -> None:
    """Notes in the manifest which of a student's functions made the images, where it is true of all of them.

    begun: what it says of those that were there already; None where there were none.
    """
    names = sorted(set(OWN))
    names = names if begun in (None, names) else []
    if manifest.get("own", []) != names:
        manifest["own"] = names
        write_json(folder.with_name(folder.name + ".json"), manifest)


def numbered(folder: Path) -> list[Path]:
    """The images 00001.png … of a folder, and nothing else that lies there."""
    return sorted(path for path in folder.glob("[0-9]" * 5 + ".png") if path.is_file())


def read_manifest(folder: Path) -> dict | None:
    """What made a folder of images, as `generate` wrote it beside the folder; None where nothing tells.

    ValueError where the manifest is damaged.
    """
    path = folder.with_name(folder.name + ".json")
    content = read_json(path) if path.is_file() else None
    if not isinstance(content, dict) or not set(content) >= MADE_BY:
        return None
    try:
        sampler_of(content)
    except (TypeError, ValueError) as error:
        text = (
            "The images in {folder} were made by a sampler that this hwkit does not know ({error}): choose another "
            "--folder, or delete {path}."
        )
        raise ValueError(say(text, folder=folder, error=error, path=path)) from error
    return content


def sampler_of(manifest: Mapping) -> Sampler:
    """The sampler that a manifest names; old ones knew no guidance and only even times.

    KeyError, TypeError or ValueError where it names none that there is.
    """
    return Sampler(**{"guidance": 1.0, "power": 1.0} | dict(manifest["sampler"]))


def claim(folder: Path, manifest: dict, n: int) -> set[int]:
    """The numbers of the images that the folder holds already, after a check that they are of this very run."""
    if folder.exists() and not folder.is_dir():
        text = "{folder} is a file, not a folder: choose another --folder."
        raise ValueError(say(text, folder=folder))
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder)} if folder.is_dir() else {}
    names = {name for name in sizes if not (is_leftover(name) or name.startswith("."))}  # the user sees no such
    numbers = {int(name[:5]) for name in names if re.fullmatch(r"\d{5}\.png", name) and name != file_name(0)}
    others = sorted(names - {file_name(k) for k in numbers})
    if others:
        text = "{folder} also holds {names}: choose an empty --folder for the images."
        raise ValueError(say(text, folder=folder, names=", ".join(others[:3])))
    if numbers and max(numbers) > n:
        text = (
            "{folder} holds {count:,} images, up to {last}, but --n is {n:,}: give --n {most} or more, or choose "
            "another --folder."
        )
        most = max(numbers)
        raise ValueError(say(text, folder=folder, count=len(numbers), last=file_name(most), n=n, most=most))
    if numbers:
        compare(folder, read_manifest(folder), manifest)
    write_json(folder.with_name(folder.name + ".json"), manifest)
    return {k for k in numbers if sizes[file_name(k)]}  # an empty file is what a power failure leaves


def compare(folder: Path, before: dict | None, now: dict) -> None:
    """ValueError, with the flags to give, where a folder's images were made by other means than now."""
    if before is None:
        text = "Nothing tells what made the images in {folder}: choose another --folder, or delete them."
        raise ValueError(say(text, folder=folder))
    if before["checkpoint_sha256"] != now["checkpoint_sha256"]:
        hashes = (f"{m['checkpoint']} {m['checkpoint_sha256'][:8]}…" for m in (before, now))
        text = "{folder} holds images of another checkpoint ({hashes}): delete it, or choose another --folder."
        raise ValueError(say(text, folder=folder, hashes=" → ".join(hashes)))
    then, wanted = choices(before), choices(now)
    wrong = {flag: value for flag, value in then.items() if flag in wanted and value != wanted[flag]}
    if {"--sampler", "--guidance"} & wrong.keys():  # the power that comes with them need not be named, another must be
        wrong.pop("--power", None)
        if then["--power"] != spacing(then["--sampler"], then["--guidance"]):
            wrong["--power"] = then["--power"]
    if wrong:
        leave = [flag for flag, value in wrong.items() if value is False]
        add = [flag if value is True else f"{flag} {value}" for flag, value in wrong.items() if value is not False]
        ways = [say("add {flags}", flags=" ".join(add))] * bool(add) + [say("leave {flag} out", flag=f) for f in leave]
        made = listing(f"{flag[2:]} {value}" for flag, value in wrong.items())
        text = "The images in {folder} were made with {made}: {ways}, or choose another --folder."
        raise ValueError(say(text, folder=folder, made=made, ways=listing(ways)))


def choices(manifest: dict) -> dict[str, object]:
    """The flags of `python -m hwkit sample` that decide an image, as a manifest has them."""
    values = {"device_noise": False, "precision": "fp32"} | manifest  # the defaults are of older manifests
    sampler = asdict(sampler_of(values))
    chosen = {"sampler": sampler.pop("name"), **sampler, "seed": values["seed"], "precision": values["precision"]}
    chosen["device_noise"] = values["device_noise"]
    if values["device_noise"]:
        chosen["batch"] = values["batch"]  # else the batch changes no image
    return {f"--{name.replace('_', '-')}": value for name, value in chosen.items()}
