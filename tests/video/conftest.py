import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for numbered_clips

from numbered_clips import make_numbered


@pytest.fixture(scope="session")
def numbered(tmp_path_factory):
    """A function: the numbered clip of that name and encoding, made once."""
    folder = tmp_path_factory.mktemp("numbered")

    def clip(name: str, num_frames: int, *encoding: str) -> Path:
        path = folder / name
        return path if path.exists() else make_numbered(path, num_frames, *encoding)

    return clip


@pytest.fixture
def ear():
    """The address of a web server on this machine, and the list of the paths that it is asked for."""
    asked = []

    class Ear(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
