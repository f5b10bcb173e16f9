"""The grading of a class: each submission is examined in a process of its own kind, and what was found is kept.

    for line in grade(Path("submissions"), Path("submissions-graded")):
        print(line)

Nothing that a submission holds stops it: a process that dies or takes too long is one line in the CSV, and another
takes its place. What was examined is kept in `state/` by a hash, so an interrupted grading goes on, and a changed
rubric only computes points.
"""

import contextlib
import hashlib
import multiprocessing
import os
import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

import hwkit
from hwkit.files import only_process, whole_file, write_json, write_npz, write_text
from hwkit.grade import evidence, feedback
from hwkit.grade.examine import (
    BROKEN,
    REFERENCE,
    TRAIN,
    Bench,
    Settings,
    examine,
    inception_reference,
    kits_images,
)
from hwkit.grade.intake import Refused, fingerprint
from hwkit.grade.roster import Entry, entries, read_roster
from hwkit.grade.rubric import Rubric, read_rubric
from hwkit.grade.submission import Submission, Traces
from hwkit.language import language, say, sentences, speak
from hwkit.runs import checkpoint

MINUTES = {"digits": 20.0, "inception": 180.0}  # for one submission
MEMORY = 4 * 2**30  # bytes of data that a process may hold: far more than any takes (see benchmarks/)
DEFAULTS = Settings()
RULES = 2  # raised where submissions are examined otherwise than before: nobody is judged by the older ones then
START = 180.0  # seconds that a process may take to begin


@dataclass(frozen=True)
class Job:
    """A submission to examine."""

    entry: Entry
    fingerprint: str
    key: str


def grade(
    folder: Path,
    out: Path,
    roster: Path | None = None,
    rubric: Path | None = None,
    settings: Settings = DEFAULTS,
    jobs: int | None = None,
    minutes: float | None = None,
) -> Iterator[str]:
    """Grades what lies in `folder` into `out`; yields what there is to say, line by line.

    Writes grades.csv, class.html, and for each submission feedback/ID.html and feedback/ID.results.json. settings: how
    submissions are examined; the rubric's [measure] fills in its part. jobs: processes, by default one for each core.
    minutes: after which the examination of one is ended, by default MINUTES.
    Raises FileNotFoundError or ValueError for a folder, roster or rubric that cannot be used, before anything is done.
    """
    if not folder.is_dir():
        what = "is a file, no folder" if folder.exists() else "is not there"
        raise ValueError(f"{folder} {what}: name the folder that holds a .zip or a folder of each student.")
    rules, students = read_rubric(rubric), read_roster(roster) if roster else None
    ours = [out, *(path for path in (roster, rubric) if path)]
    found = entries(folder, students, ours)
    state = out / "state"
    kit = checkpoint.PRETRAINED / checkpoint.EXPORTED
    settings = replace(settings, **rules.measure, kit=settings.kit or str(kit), cache=str(state / "cache"))
    bench = Bench(settings)  # what is wrong with the training images is said now
    against = aside(inception_reference, settings) if settings.protocol == "inception" else {}
    untried = why_untried(settings) if settings.functions else ""
    if untried:
        yield sentences(untried, say("They are left out of the points."))
    with only_process(out):
        (state / "cache").mkdir(parents=True, exist_ok=True)
        with whole_file(state / "cache" / TRAIN) as temporary, open(temporary, "wb") as file:
            np.save(file, bench.train[1])  # that all processes look into, rather than hold
        if against:
            write_npz(state / "cache" / REFERENCE, **against)
        against = str(against.get("key", ""))  # the rest is large
        seeds = drawn_seeds(state / "seeds.txt")  # once: all students have the same inputs, and nobody knows them
        settings = replace(settings, functions=settings.functions and not untried, secret=seeds.read_text("utf-8"))
        if settings.functions and not settings.seeds:
            settings = replace(settings, seeds=str(seeds))
        jobs_todo = pending(found, settings, bench, state, against)
        done = len([entry for entry in found if entry.path]) - len(jobs_todo)
        yield f"{len(found):,} students; {len(jobs_todo):,} submissions to examine, {done:,} are done."
        if jobs_todo and Path(settings.kit).is_file():
            aside(kits_images, settings)
        with tqdm(total=len(jobs_todo), unit="submission", desc="grading", disable=not jobs_todo) as bar:
            seconds = 60 * (minutes or MINUTES[settings.protocol])
            for _ in examined(jobs_todo, settings, state, jobs or cores(), seconds, bench.train[0]):
                bar.update()
        yield from written(found, bench, rules, out, untried)


def pending(found: Sequence[Entry], settings: Settings, bench: Bench, state: Path, against: str = "") -> list[Job]:
    """The submissions whose facts are not known yet, or were found in another way or of other files.

    against: a hash of what Inception's FID is measured against, whatever its files are called.
    """
    how = {name: value for name, value in asdict(settings).items() if name not in ("cache", "inception", "reference")}
    how["against"] = against
    kit = Path(settings.kit or "")
    kits = [path for path in (kit, kit.parent / checkpoint.FAST / checkpoint.EXPORTED) if path.is_file()]
    how["kit"] = [checkpoint.digest(path) for path in kits]
    how["seeds"] = Path(settings.seeds).read_text("utf-8") if settings.seeds else ""
    how |= {
        "version": hwkit.__version__,
        "rules": RULES,
        "language": language(),
        "train": hashlib.sha256(bench.train[1]).hexdigest(),
    }
    jobs = []
    for entry in found:
        if entry.path is None:
            continue
        try:
            whose = fingerprint(entry.path)
        except (*BROKEN, Refused):
            whose = ""  # the examination will say why
        key = hashlib.sha256(f"{whose} {sorted(how.items())}".encode()).hexdigest() if whose else ""
        before = known(state, entry.id)
        if not whose or before is None or before[0].key != key:
            jobs.append(Job(entry, whose, key))
    return jobs


def known(state: Path, name: str) -> tuple[Submission, Traces] | None:
    """What was found of a submission before; None where nothing was, or it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        found, traces = Submission.read(state / f"{name}.json"), Traces.read(state / f"{name}.npz")
        return (found, traces) if found.id == name else None
    return None


def keep(state: Path, found: Submission, traces: Traces) -> None:
    """Keeps what was found; the JSON comes last."""
    traces.write(state / f"{found.id}.npz")
    write_json(state / f"{found.id}.json", found.to_json())


def why_untried(settings: Settings) -> str:
    """Why students' functions cannot be tried on this machine; "" where they can. ValueError for seeds of no use."""
    from hwkit.grade.functions import read_seeds
    from hwkit.grade.isolated import Isolated, NoIsolation

    if settings.seeds:
        read_seeds(Path(settings.seeds))
    try:
        Isolated().close()
    except NoIsolation as error:
        return str(error)
    return ""


def drawn_seeds(path: Path) -> Path:
    """A file of three seeds, which is written where there is none yet."""
    if not path.is_file():
        write_text(path, " ".join(str(secrets.randbelow(10**9)) for _ in range(3)) + "\n")
    return path


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# Processes


class Worker:
    """A process that examines one submission after the other."""

    def __init__(self, settings: Settings, state: Path, train: str):
        context = processes(settings.protocol == "inception")
        self.pipe, theirs = context.Pipe()
        ours = {name: value for name, value in os.environ.items() if name.startswith("HWKIT_")}
        self.process = context.Process(
            target=serve, args=(theirs, settings, state, train, ours, language()), daemon=True
        )
        self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.ready, self.deadline = False, time.monotonic() + START

    def give(self, job: Job, seconds: float) -> None:
        self.pipe.send(job)
        self.job, self.deadline = job, time.monotonic() + seconds

    def end(self) -> None:
        """An idle process ends by itself when nobody is at the other end; any other is killed."""
        self.pipe.close()
        self.process.join(10 if self.ready and self.job is None else 0)
        self.process.kill()
        self.process.join()


def processes(with_inception: bool = False):
    """How processes begin: forked from one that has loaded torch and has done nothing, so its memory is there once.

    Where the system has no such thing each loads its own.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hwkit.grade.examine", *(["pytorch_fid.inception"] if with_inception else [])])
    return context


def aside(work: Callable, settings: Settings):
    """What `work(settings)` returns, in a process of its own with all cores, whose memory is free at its end."""
    with ProcessPoolExecutor(1, mp_context=processes(settings.protocol == "inception")) as pool:
        return pool.submit(work, settings).result()


def serve(pipe, settings: Settings, state: Path, train: str, ours: Mapping[str, str], spoken: str) -> None:
    """What a process does: examines what it is given, keeps what it finds, and says that it is done.

    train: the name of the training images, which lie in the cache. ours: the kit's variables of the environment as they
    are now, as what this process was forked from may be older.
    """
    for name in [name for name in os.environ if name.startswith("HWKIT_")]:
        del os.environ[name]
    os.environ.update(ours)
    speak(spoken)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (of words and bars there would be too many)
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    torch.set_num_threads(1)
    bench = Bench(settings, (train, np.load(Path(settings.cache) / TRAIN, mmap_mode="r")))
    with contextlib.suppress(EOFError, OSError), contextlib.closing(bench):  # till the parent ends
        pipe.send(None)
        while True:
            job = pipe.recv()
            try:
                keep(state, *examine(job.entry, bench, job.fingerprint, job.key))
                pipe.send("")
            except Exception as error:  # whatever a stranger's file brings about is that submission's, not the class's
                pipe.send(f"{type(error).__name__}: {error}")


def examined(
    todo: Sequence[Job], settings: Settings, state: Path, count: int, seconds: float, train: str
) -> Iterator[Job]:
    """Has each examined in `count` processes, and yields it; who dies or takes too long is replaced."""
    waiting, workers = list(reversed(todo)), []
    try:
        workers = [Worker(settings, state, train) for _ in range(min(count, len(waiting)))]
        left, starts = len(waiting), 0
        while left:
            now = time.monotonic()
            soonest = min((w.deadline for w in workers if w.job or not w.ready), default=now + 1)
            wait([w.pipe for w in workers if w.job or not w.ready], max(0.0, min(soonest - now, 1.0)))
            for number, worker in enumerate(workers):
                if not (worker.job or not worker.ready):
                    continue
                said = heard(worker)
                if said is None:
                    continue
                job, failed = worker.job, said
                worker.job = None
                if job is None and not failed:
                    worker.ready = True
                if failed and (job is None or not worker.process.is_alive() or worker.deadline <= time.monotonic()):
                    starts += job is None
                    if starts > 2 * count:
                        raise OSError(f"No process can be started for the examination: {failed}")
                    worker.end()
                    workers[number] = Worker(settings, state, train)
                if job:
                    if failed:
                        found = Submission(id=job.entry.id, fingerprint=job.fingerprint, failed=failed)
                        keep(state, found, Traces.none())  # without a key: it is tried again the next time
                    left -= 1
                    yield job
            for worker in workers:
                if worker.ready and worker.job is None and waiting:
                    worker.give(waiting.pop(), seconds)
    finally:
        for worker in workers:
            worker.end()


def heard(worker: Worker) -> str | None:
    """ "" where a process is ready or done, a sentence where it failed; None where it is still at work."""
    try:
        if worker.pipe.poll():
            return worker.pipe.recv() or ""
    except (EOFError, OSError):
        worker.process.join(5)
        code = worker.process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return say("The examination broke off ({how}): it may have needed too much memory.", how=how)
    if worker.deadline <= time.monotonic():
        return say("The examination was ended: it took too long.")
    return None


# What is written


def written(found: Sequence[Entry], bench: Bench, rules: Rubric, out: Path, untried: str) -> Iterator[str]:
    """Points, flags and pages of what was found. untried: why nobody's functions were, though they were asked for."""
    state = out / "state"
    submissions: dict[str, Submission] = {}
    traces: dict[str, Traces] = {}
    for entry in found:
        why = say("It was not examined.") if entry.path else say("Nothing was handed in.")
        nothing = Submission(id=entry.id, failed=why), Traces.none()
        one, traces[entry.id] = (known(state, entry.id) if entry.path else None) or nothing
        if untried:
            one = replace(one, tasks=None, untried=untried)
        elif bench.settings.functions and not one.untried:
            one = replace(one, tasks=one.tasks or ())  # what failed altogether has none that pass
        submissions[entry.id] = one
    digits = evidence.known_digits(bench.settings.train or os.environ.get("HWKIT_MNIST"), bench.train)
    flags = evidence.flags(found, submissions, traces, digits, rules.flags)
    protocol = bench.settings.protocol
    grades = {entry.id: rules.grade(submissions[entry.id], entry.late, protocol) for entry in found}
    results: Mapping = {entry.id: feedback.Result(entry, submissions[entry.id], grades[entry.id]) for entry in found}
    pages = feedback.write(list(results.values()), flags, protocol, rules, out)
    failed = [r for r in results.values() if r.found.failed]
    yield f"Marks: {pages.csv} ({len(results) - len(failed):,} graded, {len(failed):,} without, {len(flags):,} flags)"
    yield f"The class: {pages.overview}"
    yield f"Feedback: {pages.folder}/ID.html, and for Gradescope ID.results.json"
