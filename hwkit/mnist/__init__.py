"""MNIST from wherever it is: sources → a folder of PNGs ↔ one tensor → batches."""
