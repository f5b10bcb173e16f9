"""The process that `forks.py` forks commands from: requests come in and answers go out as lines of JSON.

It imports the kit from the folder that it is started in.
"""

import json
import os
import pkgutil
import resource
import signal
import sys
import traceback
from pathlib import Path


def serve() -> None:
    sys.path.insert(0, os.getcwd())
    import torch

    import hwkit

    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(hwkit.__path__, "hwkit."):
        __import__(module.name)
    torch.optim.AdamW([torch.zeros(1)])  # which imports as much again
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if answer == 0:
                run(**request)
        print(json.dumps(answer), flush=True)


def run(arguments: list[str], output: str, die: list | None, limit: int | None) -> None:
    """In the new process: the command, and the end."""
    with open(os.devnull) as nothing, open(output, "w") as said:
        for number, file in enumerate((nothing, said, said)):
            os.dup2(file.fileno(), number)
    code = 1
    try:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        if die:
            prepare_to_die(*die)
        code = sys.modules["hwkit.__main__"].main(arguments)
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def prepare_to_die(when: str, name: str, count: int) -> None:
    write, replace, seen = Path.write_bytes, os.replace, []

    def due(path) -> bool:
        seen.append(1) if Path(path).name == name else None
        return Path(path).name == name and len(seen) == count

    def half(path, data):
        if due(path):
            write(path, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(path, data)

    def rename(source, path):
        now = due(path)
        if now and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, path)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)

    if when == "half":
        Path.write_bytes = half
    else:
        os.replace = rename


if __name__ == "__main__":
    serve()
