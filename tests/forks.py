"""Commands of the kit as processes of their own, forked from one that has imported everything.

They are started, signalled and killed as any other, but a start does not take the seconds that PyTorch takes to import.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from soak import Kit


class Forks(Kit):
    """A copy of the kit whose commands are forked."""

    def __init__(self, folder: Path):
        super().__init__(folder, digits=160, epochs=2)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HWKIT")}
        self.server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("fork_server.py")],
            cwd=folder,
            env={**environment, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.started = 0

    def ask(self, **request):
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def start(self, *arguments, die: tuple[str, str, int] | None = None, limit: int | None = None) -> "Forked":
        """`python -m hwkit …`.

        die: (when, name, k): it kills itself "half"-way in the k-th writing of a file of that name, or "before" or
        "after" that gets its name. limit: no file may grow beyond so many bytes, as on a disk that is full.
        """
        self.started += 1
        output = self.folder.with_name(f"output-{self.started}.txt")
        pid = self.ask(arguments=[str(part) for part in arguments], output=str(output), die=die, limit=limit)
        return Forked(self, pid, output)

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait()


class Forked:
    """As much of `subprocess.Popen` as is needed."""

    def __init__(self, kit: Forks, pid: int, output: Path):
        self.kit, self.pid, self.output, self.returncode = kit, pid, output, None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self.kit.ask(wait=self.pid)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 120) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < end, f"it has not ended within {timeout:.0f} s"
            time.sleep(0.01)
        return self.returncode

    def communicate(self, timeout: float = 120) -> tuple[str, None]:
        self.wait(timeout)
        return self.output.read_text(), None
