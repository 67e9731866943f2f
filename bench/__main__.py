"""Runs one benchmark: `python -m bench NAME [--quick]`. Each is a module with `main(quick) -> {metric: value}`."""

from __future__ import annotations

import argparse
import importlib
import inspect
from pathlib import Path

import orjson


def main() -> None:
    """Parse the arguments, run the benchmark, and print its figures as the last line."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measures Lifechart beside a yardstick.")
    parser.add_argument("name", choices=names)
    parser.add_argument("--quick", action="store_true", help="a small version")
    parser.add_argument("--lives", type=int, help="how many simulated lives, for the benches that take it")
    arguments = parser.parse_args()
    bench = importlib.import_module(f"bench.{arguments.name}").main
    options = {} if arguments.lives is None else {"lives": arguments.lives}
    if unknown := set(options) - set(inspect.signature(bench).parameters):
        parser.error(f"{arguments.name} takes no --{unknown.pop()}")
    metrics = bench(arguments.quick, **options)
    print(orjson.dumps({"bench": arguments.name, "metrics": metrics}).decode(), flush=True)


if __name__ == "__main__":
    main()
