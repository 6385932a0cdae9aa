"""Time and memory of each stage, measured in fresh processes: ``python -m benchmarks --help``."""
