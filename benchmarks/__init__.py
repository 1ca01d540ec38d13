"""Speed and memory, each against its plain counterpart in one run. From a clone: ``python -m benchmarks.answer``."""
