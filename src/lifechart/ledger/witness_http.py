"""A witness on the network (C2SP tlog-witness, `POST /add-checkpoint`), in the standard library's own server."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lifechart.core.errors import LifechartError
from lifechart.ledger.witness import Refused, Witness, unpack_request

_MOST_BYTES = 64 << 10
_SECONDS = 10


def server(witness: Witness, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server that answers for the witness; `serve_forever` runs it. Put TLS in front of it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _SECONDS

        def do_POST(self) -> None:
            """Answer add-checkpoint."""
            if self.path.rsplit("/", 1)[-1] != "add-checkpoint":
                self._say(404, "there is only add-checkpoint\n")
                return
            length = self.headers.get("content-length", "")
            if not length.isdecimal() or int(length) > _MOST_BYTES:
                self.close_connection = True
                self._say(400, f"a body of at most {_MOST_BYTES} bytes, with its length\n")
                return
            try:
                old, proof, note = unpack_request(self.rfile.read(int(length)).decode())
                self._say(200, witness.add_checkpoint(old, proof, note))
            except UnicodeDecodeError:
                self._say(400, "not UTF-8\n")
            except Refused as error:
                stale = error.status == 409 and "forked" not in str(error)
                self._say(error.status, f"{error.size}\n" if stale else f"{error}\n", stale=stale)
            except (LifechartError, OSError):
                self._say(500, "the witness cannot keep its state, so it does not cosign\n")

        def _say(self, status: int, text: str, *, stale: bool = False) -> None:
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/x.tlog.size" if stale else "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: who asked is nobody's business, and what was cosigned stands in the state."""

    return ThreadingHTTPServer((host, port), Handler)
