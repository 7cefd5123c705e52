"""Measurements, one module each: `python -m benchmarks.NAME [--quick] [--json]`.

`--quick` ends within 50 seconds; `--json` prints one JSON object on the last line. A full run
writes a page with machine and method into `docs/benchmarks/`.
"""
