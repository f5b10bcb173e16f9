"""The words of a PDF, by pypdf where that is installed: in a process with limits, as the PDF is a stranger's.

    pip install pypdf

A PDF may ask a reader for any time and memory. pypdf is Python alone, so it is nothing worse that one can bring about.
This file is also what that process runs, with pypdf and nothing else: it imports nothing of the kit.
"""

import importlib.util
import io
import subprocess
import sys
from pathlib import Path

SECONDS, WALL = 20, 60  # of a core, and in all
MEMORY = 2**30  # bytes of addresses
PAGES, LETTERS = 100, 2_000_000  # that are read, at most


def is_installed() -> bool:
    """Whether PDFs can be read here."""
    return importlib.util.find_spec("pypdf") is not None


def words(data: bytes) -> str:
    """The text of a PDF, as far as it could be read within the limits. ValueError where that is nothing at all."""
    library = Path(importlib.util.find_spec("pypdf").origin).parents[1]
    command = [sys.executable, "-I", "-B", __file__, str(library)]
    try:
        done = subprocess.run(command, input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=WALL)
        text, ended = done.stdout, done.returncode == 0
    except subprocess.TimeoutExpired as error:
        text, ended = error.output or b"", False
    if not (text or ended):
        raise ValueError("nothing in it could be read")
    return text.decode("utf-8", errors="replace")


def main() -> None:
    """Reads a PDF from the input, and writes its text page by page: what comes before a bomb is there."""
    if sys.platform != "win32":
        import resource

        for kind, most in ((resource.RLIMIT_CPU, SECONDS), (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0)):
            resource.setrlimit(kind, (most, most))
    sys.path.insert(0, sys.argv[1])
    from pypdf import PdfReader

    left = LETTERS
    for page in PdfReader(io.BytesIO(sys.stdin.buffer.read())).pages[:PAGES]:
        text = page.extract_text()[:left]
        left -= len(text)
        sys.stdout.buffer.write(f"{text}\n".encode(errors="replace"))
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
