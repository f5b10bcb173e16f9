"""Row 12: a class of synthetic submissions, graded by the command's own function in processes for all cores."""

import io
import tempfile
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil

from benchmarks.measure import Line
from benchmarks.rows import Scale
from hwkit.files import write_text
from hwkit.grade.examine import Settings
from hwkit.grade.grading import cores, grade
from hwkit.measure.memorisation import training_images
from hwkit.mnist.folder import encode_png, file_name


def grading(scale: Scale) -> list[Line]:
    """Seconds for each submission, and the memory of all processes together."""
    seconds, peaks = {}, []
    with tempfile.TemporaryDirectory() as place:
        write_text(Path(place, "rubric.toml"), f"[measure]\nimages = {scale.handed_in}\n")
        for count in (max(1, scale.submissions // 2), scale.submissions):  # is twice the class twice the time?
            folder = Path(place, f"class_{count}")
            folder.mkdir()
            for number in range(count):
                (folder / f"student_{number}.zip").write_bytes(submission(number, scale.handed_in))
            with Watch() as watch:
                list(grade(folder, Path(place, f"out_{count}"), rubric=Path(place, "rubric.toml"), settings=BARE))
            seconds[count] = watch.seconds
            peaks.append(watch.peak)
    (few, short), (many, long) = seconds.items()
    raw = {"submissions": [few, many], "seconds": [short, long], "peak_gb": peaks, "processes": cores()}
    how = f"{many} .zip of {scale.handed_in:,} PNGs, digits protocol, no weights in them, {cores()} processes"
    growth = (long - short) / max(1, many - few) / (long / many)
    return [
        Line("12", "grading a submission", long / many, "s", 20, False, how=how, raw=raw),
        Line("12", "the last ones against the mean", growth, "×", 1.1, False, how=f"{short:.0f} s for {few}"),
        Line("12", "memory of all processes, grading", max(peaks), "GB", 2, False, how="proportional set size"),
    ]


BARE = replace(Settings(), kit="none")  # no images of the kit's weights are made to compare with


def submission(number: int, count: int) -> bytes:
    """A .zip of `count` real digits, shifted, and with noise of their own."""
    rng, (_, digits) = np.random.default_rng([3, number]), training_images()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for k, index in enumerate(rng.choice(len(digits), count, replace=count > len(digits)), 1):
            digit = np.roll(digits[index], rng.integers(-2, 3, 2), (0, 1)).astype(float)
            digit = (digit + rng.normal(0, 12, digit.shape) * (digit > 0)).clip(0, 255).round().astype(np.uint8)
            archive.writestr(f"generate/{file_name(k)}", encode_png(digit[None]))
    return buffer.getvalue()


class Watch:
    """The seconds within it, and the largest memory (GB) that this process and its children then held together."""

    def __enter__(self) -> "Watch":
        self.peak, self.done, self.started = 0.0, threading.Event(), time.monotonic()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.seconds = time.monotonic() - self.started
        self.done.set()
        self.thread.join()

    def look(self) -> None:
        own = psutil.Process()
        while not self.done.wait(0.5):
            held = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    about = process.memory_full_info()
                    held += getattr(about, "pss", about.rss)  # shared pages count once
                except psutil.Error:  # it has ended meanwhile
                    continue
            self.peak = max(self.peak, held / 1e9)
