"""A process in which students' functions run: without network, files, other processes, and for a while only.

`Isolated` starts it and hands it one submission after another; `serve` is the other end. It loads torch and the check,
shuts itself in, and proves that by trying to get out; where one of the attempts succeeds, nothing is run. Then it forks
a child for each task. It never runs a student's line itself, and a child can reach nothing but a pipe of its own, so
none can change what is said of another task. To start it anew for each task would take seconds of loading each time.

The walls: bubblewrap if it is installed, else namespaces of Linux (for the network, processes and mounts) with an empty
read-only folder as root; in each child limits on time, memory and written bytes, no new process, and no new file
descriptor, without which there is neither a file nor a socket.
"""

import contextlib
import ctypes
import errno
import importlib.util
import json
import linecache
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from hwkit.language import clauses, language, say, speak

if sys.platform != "win32":  # which has no such limits, and is refused
    import resource

SECONDS, WALL = 10, 30  # of a core for a task, and in all, should it sleep or wait
START = 180  # seconds for torch to be loaded, on a busy machine
MEMORY = 2 * 2**30  # bytes that a task may ask for, beyond what torch itself takes
LARGEST = 20_000  # bytes of what is said of a task
NOBODY = 65534
own_memory = 0  # bytes of addresses that the process uses before it runs anything
NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 1, 2, 4, 8, 0x4000, 0x40000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
CAPABILITIES = 0x20080522  # the version of their interface
PREPARE = ""  # a line of Python that the process runs first: tests make holes in the fences with it
HOW = ("bwrap", "namespaces")


class NoIsolation(RuntimeError):
    """This machine cannot shut a process in; the message says what to do."""


# The grader's end


class Isolated:
    """The process, started once for many submissions. A context manager; NoIsolation where it cannot be shut in."""

    def __init__(self):
        self.process, self.folder = None, None
        self.start()

    def start(self) -> None:
        """Tries the walls in turn, until a process says that it found no way out."""
        tried, installed = [], False
        for how in HOW if sys.platform == "linux" else ():
            self.folder = tempfile.TemporaryDirectory(prefix="hwkit-isolated-")
            outside = Path(self.folder.name, "outside")
            inside = Path(self.folder.name, "inside")
            inside.mkdir()
            outside.write_text("must not be read from inside")
            words = bwrap() if how == "bwrap" else []
            installed |= how == "bwrap" and words is not None
            if words is None:
                tried.append(say("bwrap is not installed"))
            else:
                config = {"how": how, "inside": str(inside), "outside": str(outside), "language": language()}
                self.process = started(words, config)
                answer = self.answer(START)
                if answer == {"ready": True}:
                    return
                tried.append(f"{how}: {(answer or {}).get('why') or say('it did not start')}")
            self.close()
        said = (
            "Students' functions were not run, because this machine cannot shut them in ({why}). On Debian or Ubuntu, "
            "`sudo apt install bubblewrap` makes it possible; in a container, allow it user namespaces; elsewhere, "
            "grade on a Linux machine."
        )
        if installed:
            said = (
                "Students' functions were not run, because this machine cannot shut them in ({why}). It allows no user "
                "namespaces: on Ubuntu 23.10 and later `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0` "
                "does until the next start; in a container, allow them; else grade on another Linux machine."
            )
        raise NoIsolation(say(said, why=clauses(*tried) or say("that needs Linux")))

    def run(self, jobs: list[dict], seeds: list[int]) -> dict[str, dict]:
        """By the names of the tasks: {'passed': …, 'text': …}. Jobs: see `attempt`. NoIsolation if none can be shut in.

        Where the process dies, another is started and has the same job: the system may have ended it. Where that one
        dies too, it is the job's doing.
        """
        return {job["name"]: self.one(job, seeds) for job in jobs}

    def one(self, job: dict, seeds: list[int]) -> dict:
        for _ in range(2):
            if self.process is None:
                self.start()
            with contextlib.suppress(BrokenPipeError):  # then there is no answer either
                self.process.stdin.write(json.dumps({"job": job, "seeds": seeds}).encode() + b"\n")
                self.process.stdin.flush()
            if answer := self.answer(WALL + 30):
                return answer
            self.close()
        return {"passed": False, "text": say("It ended the process in which it ran.")}

    def answer(self, seconds: float) -> dict | None:
        """The next line that the process says; None where it has ended or does not answer."""
        line, end = b"", time.monotonic() + seconds
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                return None
            if not (more := os.read(self.process.stdout.fileno(), 2**16)):
                return None
            line += more
        return json.loads(line)

    def close(self) -> None:
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
            self.process = None
        if self.folder:
            self.folder.cleanup()
            self.folder = None

    def __enter__(self) -> "Isolated":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def started(words: list[str], config: dict) -> subprocess.Popen:
    """The process, in a session of its own, with nothing of this one's environment."""
    root = Path(__file__).resolve().parents[2]
    code = f"import sys; sys.path[:0] = {[str(root)]}; {PREPARE} from hwkit.grade.isolated import serve; serve()"
    return subprocess.Popen(
        [*words, sys.executable, "-I", "-B", "-c", code, json.dumps(config)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.defpath, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "LANG": "C.UTF-8"},
        cwd="/",
        start_new_session=True,
    )


def bwrap() -> list[str] | None:
    """The command before the command: bubblewrap, which shows the process Python and its packages only, to read."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    package = Path(__file__).resolve().parents[1]
    found = [importlib.util.find_spec(name) for name in ("torch", "numpy", "scipy")]
    software = {*map(Path, ("/usr", "/lib", "/lib64", "/bin", sys.prefix, sys.base_prefix)), package}
    software |= {Path(spec.origin).parents[1] for spec in found if spec and spec.origin}
    binds = [word for path in sorted(software) if path.exists() for word in ("--ro-bind", str(path), str(path))]
    walls = "--unshare-net --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup-try --die-with-parent"
    rights = "--cap-add CAP_SETUID --cap-add CAP_SETGID" if os.geteuid() == 0 else "--unshare-user"
    system = "--proc /proc --dev-bind /dev/null /dev/null --dev-bind /dev/urandom /dev/urandom --tmpfs /tmp"
    return [program, *f"{walls} {rights} {system}".split(), *binds, "--remount-ro", "/", "--chdir", "/"]


# The other end


def serve() -> None:
    """Shuts this process in, then answers one line for each task that stands in a line of the input."""
    config = json.loads(sys.argv[1])
    speak(config["language"])
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)  # what a student prints goes nowhere
    try:
        if config["how"] == "namespaces":
            enter_namespaces()
        import scipy.linalg  # noqa: F401  # what students' functions may use is loaded before the door is shut
        import torch

        from hwkit.course.selfcheck import judge
        from hwkit.course.tasks import TASKS
        from hwkit.grade import allowed  # noqa: F401
        from hwkit.unet import UNet

        global own_memory
        torch.set_num_threads(1)
        for task in TASKS:
            judge(task, task.answer, 0)  # so that whatever is loaded late is loaded
        UNet.forward = torch.nn.Module.forward  # is the answer to task 2.6
        own_memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        if config["how"] == "namespaces":
            leave_the_files(config["inside"])
        give_up_rights()
        if ways := forked(lambda: ways_out(config["outside"])):
            raise OSError(errno.EPERM, f"the process could still {ways}")
    except Exception as error:
        out.write(json.dumps({"ready": False, "why": str(error)}).encode() + b"\n")
        return
    out.write(json.dumps({"ready": True}).encode() + b"\n")
    for line in sys.stdin.buffer:
        request = json.loads(line)
        said = forked(lambda request=request: attempt(request["job"], request["seeds"]))
        out.write(json.dumps(answer_from(said)).encode() + b"\n")


def answer_from(said) -> dict:
    """What a child said as an answer, whatever it said."""
    if isinstance(said, dict) and isinstance(said.get("passed"), bool) and isinstance(said.get("text"), str):
        return {"passed": said["passed"], "text": said["text"]}
    return {"passed": False, "text": str(said)}


def libc(name: str, *arguments) -> int:
    """Calls a function of the C library; OSError where it fails."""
    library = ctypes.CDLL(None, use_errno=True)
    result = getattr(library, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def enter_namespaces() -> None:
    """Goes on as the first process of namespaces without network and with mounts of its own; the old one waits."""
    flags, uid, gid = NEWNS | NEWPID | NEWNET | NEWIPC | NEWUTS, os.geteuid(), os.getegid()
    try:
        libc("unshare", flags)
    except OSError:
        libc("unshare", flags | NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    if child := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)


def leave_the_files(inside: str) -> None:
    """Makes an empty folder, which cannot be written to, the root of all files."""
    libc("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
    libc("mount", b"tmpfs", inside.encode(), b"tmpfs", flags, b"size=4k")
    os.chroot(inside)
    os.chdir("/")


def give_up_rights() -> None:
    """Ends as a user without any capability, who cannot get one, nor look into another process."""
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError, OSError):  # in a user namespace of one user there is no other
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    header, data = (ctypes.c_uint32 * 2)(CAPABILITIES, 0), (ctypes.c_uint32 * 6)()
    libc("capset", header, data)
    libc("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc("prctl", PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def ways_out(outside: str) -> str:
    """What this process can still do of what it must not; '' if nothing. The limits on descriptors are not yet set."""
    found = []

    def tries(what, way):
        with contextlib.suppress(OSError):
            way()
            found.append(what)

    def fork():
        if not os.fork():
            os._exit(0)

    def connect():
        with socket.socket() as there:
            there.settimeout(1)
            there.connect(("192.0.2.1", 80))  # an address for examples: without a network there is no way to it

    tries("read a file of another folder", lambda: open(outside).close())
    tries("list the folders of users", lambda: os.listdir(os.path.dirname(outside)))
    tries("write beside it", lambda: open(f"{os.path.dirname(outside)}/written", "w").close())
    tries("write a file", lambda: open("/written", "w").close())
    tries("reach the network", connect)
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    tries("start a process", fork)
    return " and ".join(found)


def forked(work) -> dict | str:
    """What `work` returns in a child, through a pipe; or, where it was ended, a sentence on that."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(0)
        os.closerange(3, write)  # the pipes of others
        os.closerange(write + 1, 256)
        try:
            said = json.dumps(work()).encode()
        except BaseException as error:
            said = json.dumps(say("It could not be tried ({error}).", error=type(error).__name__)).encode()
        os.write(write, said[:LARGEST])
        os._exit(0)
    os.close(write)
    said, end = b"", time.monotonic() + WALL
    while len(said) <= LARGEST and select.select([read], [], [], max(0, end - time.monotonic()))[0]:
        if not (more := os.read(read, LARGEST)):
            break
        said += more
    os.close(read)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and not said:
        late = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGKILL)
        ended = say("It ended the process in which it ran.")
        return say("It did not end within {seconds} seconds.", seconds=SECONDS) if late else ended
    with contextlib.suppress(ValueError):
        return json.loads(said)
    return say("It gave nothing that could be read.")


def attempt(job: dict, seeds: list[int]) -> dict:
    """Runs a task's function on the inputs of each seed, in a child that may do nothing else.

    job: `name` of the task, `source`, `entry` (what is defined there), `imports` and `others` as in `vetted`.
    """
    from hwkit.course.selfcheck import judge
    from hwkit.course.tasks import BY_NAME
    from hwkit.grade.allowed import safe_builtins, vetted

    task, file = BY_NAME[job["name"]], f"<{job['name']}>"
    given = {alias: member(path) for alias, path in job["imports"].items()}
    given |= {name: BY_NAME[name].answer for name in job["others"]}
    tree = vetted(job["source"], job["imports"], frozenset(job["others"]), job["name"])
    linecache.cache[file] = (len(job["source"]), None, job["source"].splitlines(True), file)
    names = {"__builtins__": safe_builtins(), "__name__": "notebook", **given}
    limit()
    warnings.simplefilter("ignore")
    try:
        exec(compile(tree, file, "exec"), names)
        for seed in seeds:
            result = judge(task, names[job["entry"]], seed)
            if not result:
                break
    except Exception as error:  # as in `check`: what it gives cannot even be compared, or it cannot be defined
        said = say("It stopped with {error}: {why}", error=type(error).__name__, why=str(error)[:200])
        return {"passed": False, "text": said}
    text = re.sub(rf"^. {re.escape(str(task))}[:：] *", "", result.text.split("\n")[0])
    return {"passed": result.passed, "text": text}


def member(path: str):
    """'torch.nn.functional' or 'math.sqrt' as the module or its member."""
    module, _, name = path.rpartition(".")
    if path in sys.modules:
        return sys.modules[path]
    return getattr(sys.modules[module], name)


def limit() -> None:
    """The walls of a child. Without new descriptors it can open neither a file nor a socket."""
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    resource.setrlimit(resource.RLIMIT_AS, (own_memory + MEMORY, own_memory + MEMORY))
    for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE):
        resource.setrlimit(kind, (0, 0))
