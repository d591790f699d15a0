"""The faults that `benchmarks/faults.py` provokes, one kind a module."""
