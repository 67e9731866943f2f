"""A block of the backbone in C, compiled where this machine has a compiler; without one torch's passes serve.

In the order to read it: `products.h` (matrix products), `rows.h`, `attention.h`, `block.c`, and `block`, which makes a
function of torch's autograd of it.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

import torch

from lifechart.core import durable
from lifechart.core.errors import InputError

_SOURCES = ("products.h", "rows.h", "attention.h", "block.c")
_COMPILERS = ("cc", "gcc", "clang", "g++", "clang++")
_FLAGS = ("-O3", "-march=native", "-shared", "-fPIC", "-xc", "-std=c11")
SWITCH = "LIFECHART_NATIVE"
"""`off` where nothing may be compiled or loaded from the user's cache folder."""
_log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """Return the compiled block, or None where it cannot be had: another processor, no compiler, or one that failed.

    What was compiled is kept in the user's cache folder, under a name that says from what, by what and for which CPU.
    """
    asked = os.environ.get(SWITCH, "auto")
    if asked not in ("auto", "off"):
        raise InputError(SWITCH, asked, "auto or off")
    if asked == "off" or platform.machine() != "x86_64" or not torch.cpu._is_avx512_bf16_supported():
        return None
    compiler = next((found for name in _COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        return None
    try:
        kept = _folder() / f"block-{_identity(compiler)}.so"
        if not kept.exists():
            with durable.replacing(kept) as aside:
                _compile(compiler, aside)
        return ctypes.CDLL(str(kept))
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("the compiled block cannot be had, torch's passes serve instead: %s", error)
        return None


def _compile(compiler: str, into: Path) -> None:
    source = Path(__file__).parent / _SOURCES[-1]
    command = [compiler, *_FLAGS, "-o", str(into), str(source), "-lm"]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def _identity(compiler: str) -> str:
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True, text=True, timeout=20).stdout
    sources = [(Path(__file__).parent / name).read_text() for name in _SOURCES]
    return durable.digest_of([*sources, *_FLAGS, version, _processor()])[:32]


def _processor() -> str:
    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    return "\n".join(sorted({line for line in lines if line.startswith(("model", "flags"))}))


def _folder() -> Path:
    """Return a folder that nobody else may write to: what lies there is loaded and run."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lifechart"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        about = folder.stat()
        if about.st_uid == os.getuid() and not about.st_mode & 0o022 and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="lifechart-"))
