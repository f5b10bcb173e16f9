"""How fast the kit is, beside its peers, on the machine at hand: `python -m benchmarks --help`."""
