"""hwkit: train a DDPM from scratch on MNIST, sample it, draw it, measure it.

`python -m hwkit --help` lists the commands; `hwkit/README.md` says what to read first.
"""

__version__ = "0.2.0"
