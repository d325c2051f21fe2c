"""Public backbones by name: fetched from a server of the test, kept, and what is said where they cannot be."""

import contextlib
import hashlib
import http.server
import io
import sys
import threading
from pathlib import Path

import numpy as np
import pooch
import pytest

from eval import convert
from eval.sources import backbones
from trackers.nets import models
from trackers.weights import files
from trackers.weights.convert import from_peer, to_peer

OUT = "out.safetensors"


@pytest.fixture(scope="module")
def content():
    """A ResNet-18 as torchvision publishes it, as far as a reader sees."""
    rng = np.random.default_rng(0)
    flat = models.expected_variables("atom_multiscale")
    params = {"backbone": _random(rng, flat["backbone"])}
    buffer = io.BytesIO()
    np.savez(buffer, **to_peer(params, "atom_multiscale", "ours").state)
    return buffer.getvalue()


def _random(rng, tree):
    if isinstance(tree, dict):
        return {name: _random(rng, branch) for name, branch in tree.items()}
    return rng.random(tree.shape, np.float32)


class Server:
    """Answers every request with `content`; `status`, and how many of the bytes come, can be changed."""

    def __init__(self, content):
        self.content, self.status, self.share, self.requests = content, 200, 1.0, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests.append(self.path)
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.content)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # who reads the status alone
                    self.wfile.write(outer.content[: int(outer.share * len(outer.content))])

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server.server_port}/models/"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def server(content, tmp_path, monkeypatch):
    """A server in place of the public one; an empty cache; the current folder is empty, too."""
    server = Server(content)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(backbones, "BASE", server.base)
    row = backbones.Backbone("resnet18-f37072fd.pth", hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(backbones.BACKBONES, "resnet18", row)
    yield server
    server.stop()


def run():
    return convert.main(["resnet18", OUT, "--tracker", "atom_multiscale"])


def kept(tmp_path):
    return sorted(str(path.relative_to(tmp_path / "cache")) for path in tmp_path.rglob("cache/**/*") if path.is_file())


def refused(capsys):
    """The one line of the error."""
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: resnet18: cannot be fetched from {backbones.BASE}resnet18-f37072fd.pth; ")
    assert "give it as SOURCE, or put it at " in line and line.count("resnet18-f37072fd.pth") >= 2
    return line


def test_a_name_is_fetched_once(server, tmp_path, capsys):
    assert run() == 0, capsys.readouterr().err
    assert server.requests == ["/models/resnet18-f37072fd.pth"]
    assert kept(tmp_path) == ["jaxtrack/weights/resnet18-f37072fd.pth"]
    assert capsys.readouterr().err == ""
    first = files.sha256(OUT)
    info = files.read_metadata(OUT)["info"]
    assert info["source"] == "resnet18-f37072fd.pth" and info["source_sha256"] == backbones.BACKBONES["resnet18"].sha256
    server.stop()
    assert run() == 0 and files.sha256(OUT) == first and len(server.requests) == 1


def test_a_file_of_that_name_wins(server, content, tmp_path, capsys):
    (tmp_path / "here" / "resnet18").write_bytes(content)
    assert run() == 0, capsys.readouterr().err
    assert server.requests == [] and files.read_metadata(OUT)["info"]["source"] == "resnet18"


def test_what_is_not_the_public_file_is_not_kept(server, tmp_path, capsys):
    server.content = server.content[:-1] + b"x"
    assert run() == 1 and "hash" in refused(capsys)
    assert kept(tmp_path) == [] and not list((tmp_path / "here").iterdir())


def test_an_address_that_is_gone_is_one_line(server, tmp_path, capsys):
    server.status = 404
    assert run() == 1 and "404" in refused(capsys)
    assert kept(tmp_path) == []


def test_without_a_network_the_address_and_the_place_are_named(server, content, tmp_path, capsys):
    server.stop()
    assert run() == 1
    line = refused(capsys)
    place = tmp_path / "cache" / "jaxtrack" / "weights" / "resnet18-f37072fd.pth"
    assert f"put it at {place} (" in line and kept(tmp_path) == []
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)  # by other means
    assert run() == 0, capsys.readouterr().err


def test_an_interrupted_download_is_done_again(server, tmp_path, capsys):
    """By a connection that breaks, and by Ctrl-C."""
    server.share = 0.5
    assert run() == 1 and refused(capsys)
    assert kept(tmp_path) == []
    server.share = 1.0
    with pytest.MonkeyPatch.context() as patch:

        def half(self, url, output_file, *more, **options):
            Path(output_file).write_bytes(b"half")
            raise KeyboardInterrupt

        patch.setattr(pooch.HTTPDownloader, "__call__", half)
        assert run() == 130 and "interrupted" in capsys.readouterr().err
    assert kept(tmp_path) == [] and not list((tmp_path / "here").iterdir())
    assert run() == 0, capsys.readouterr().err
    assert kept(tmp_path) == ["jaxtrack/weights/resnet18-f37072fd.pth"]


def test_a_damaged_file_in_the_cache_is_fetched_again(server, content, tmp_path):
    place = tmp_path / "cache" / "jaxtrack" / "weights" / "resnet18-f37072fd.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(content[:100])
    assert backbones.fetched("resnet18") == place and place.read_bytes() == content


def test_progress_is_shown_on_a_terminal(server, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    backbones.fetched("resnet18")
    assert "resnet18-f37072fd.pth: " in capsys.readouterr().err


def test_every_name_is_of_torchvision_and_its_digest_is_in_the_file_name():
    for name, (file, sha256) in backbones.BACKBONES.items():
        assert file == f"{name}-{sha256[:8]}.pth" and len(sha256) == 64


def test_the_content_of_these_tests_is_a_backbone(content):
    with np.load(io.BytesIO(content)) as state:
        params, _ = from_peer(dict(state), "atom_multiscale", "content")
    assert set(params) == {"backbone"}
