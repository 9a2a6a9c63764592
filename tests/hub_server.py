"""A small Hugging Face Hub on loopback: one repository, and the ways in which downloads go wrong."""

import hashlib
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34
LARGE = 1000  # bytes; larger files have the SHA-256 as their checksum, as those in Git LFS


class LocalHub:
    """``files`` of one repository by name; ``asked`` lists (method, name, Range) of each request.

    ``refuse``: (status, X-Error-Code) of every answer. ``bodies``: for a file's next downloads what is done with the
    bytes that were asked for: a function of them, or a number of bytes after which the connection is dropped.
    """

    def __init__(self, files: dict[str, bytes]):
        self.files, self.asked, self.refuse, self.bodies = files, [], None, {}
        self.knows_ranges = True

    def checksum(self, name: str) -> str:
        content = self.files[name]
        if len(content) > LARGE:
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(send=False)

    def do_GET(self):
        self.answer(send=True)

    def answer(self, send: bool):
        hub, name = self.server.hub, self.path.rpartition("/")[2]
        hub.asked.append((self.command, name, self.headers.get("Range")))
        if hub.refuse or name not in hub.files:
            status, code = hub.refuse or (404, "EntryNotFound")
            self.send_response(status)
            self.send_header("Content-Length", "0")
            if code:
                self.send_header("X-Error-Code", code)
            self.end_headers()
            return
        content, etag = hub.files[name], hub.checksum(name)
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(span[1]) if span and hub.knows_ranges else 0
        self.send_response(206 if span and hub.knows_ranges else 200)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Content-Length": len(content) - first}
        headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": len(content)} if len(content) > LARGE else {}
        for key, value in headers.items():
            self.send_header(key, str(value))
        self.end_headers()
        if send:
            change = hub.bodies.get(name, []).pop(0) if hub.bodies.get(name) else None
            body = content[first:]
            self.wfile.write(body[:change] if isinstance(change, int) else change(body) if change else body)
            self.close_connection = change is not None

    def log_message(self, *arguments):
        pass


@contextmanager
def serve(files: dict[str, bytes]):
    """A LocalHub that answers at ``hub.url`` until the end of the body."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.hub = hub = LocalHub(files)
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
