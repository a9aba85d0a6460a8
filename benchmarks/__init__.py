"""One harness, one file per question: python -m benchmarks.<question>."""
