"""hwkit: train a DDPM from scratch on MNIST, sample it, draw it, measure it.

`python -m hwkit --help` lists the commands; `hwkit/README.md` is the plan of the house.
"""

__version__ = "0.1.0"
