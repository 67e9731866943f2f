"""Bytes of text files as Arrow can read them: unpacked, cut off at a whole line, and valid UTF-8 throughout."""

from __future__ import annotations

import codecs
import gzip
import io
from pathlib import Path

from lifechart.data.sources import documents

REPLACEMENT = "\ufffd"
"""Stands for bytes that are no UTF-8."""


class Part:
    """Bytes of a file for Arrow to read. What is no UTF-8 is replaced: Arrow loses a broken row that holds it."""

    early = False
    closed = False

    def __init__(self, content: bytes) -> None:
        self.replaced = False
        if not content.isascii():
            try:
                content.decode()
            except UnicodeDecodeError:
                self.replaced = True
                content = content.decode(errors="replace").encode()
        self._stream = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        return self._stream.read(size)

    def close(self) -> None:
        """Let go of the bytes."""
        self._stream.close()
        self.closed = True


class Unpacked:
    """A gzip stream for Arrow to read; if it breaks off, it ends with its last whole line. Replaces as `Part` does."""

    def __init__(self, path: Path) -> None:
        self._stream = gzip.GzipFile(path, "rb")
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._left, self._ended = b"", False
        self.early = self.closed = self.replaced = False

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes, `size` of them unless the end is near: replaced ones are longer than they were."""
        want = size if size >= 0 else 1 << 62
        while len(self._left) < want and not self._ended:
            block, self.early = documents.fill(self._stream, want - len(self._left))
            whole = block[: block.rfind(b"\n") + 1] if self.early else block
            self._ended = self.early or not block
            text = self._decoder.decode(whole, final=self._ended)
            self.replaced = self.replaced or REPLACEMENT in text
            self._left += text.encode()
        given, self._left = self._left[:want], self._left[want:]
        return given

    def close(self) -> None:
        """Close the file."""
        self._stream.close()
        self.closed = True


def open_plain(path: Path) -> io.BufferedReader | gzip.GzipFile:
    """Open a file, unpacking it if its name says that it is packed."""
    return gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb")
