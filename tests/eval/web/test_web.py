"""The command: what it prints, how it ends, and that a kill in the middle of a run loses nothing that was there."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import parse_qs, urlsplit

import pytest

from eval.web.__main__ import main
from tests.helpers import annotator, places
from tests.helpers.annotator import BOX, TRACKER, Page

pytest.importorskip("starlette", reason="needs the extra `web`")


@pytest.fixture
def clip(tmp_path):
    return annotator.walking_spot(tmp_path / "clip.mp4", 3000)


def started(place, tracker=TRACKER, **environment):
    """The process, and a page that talks to it."""
    command = [sys.executable, "-m", "eval.web", str(place), "--port", "0", "--tracker", tracker]
    process = subprocess.Popen(
        command,
        cwd=places.REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    line = process.stdout.readline()
    assert line.startswith(f"{place}: http://127.0.0.1:"), line + process.stderr.read()
    return process, Page(line.split(": ")[1].split(" ")[0])


def begun(page, target):
    """A run that has found something."""
    page.post(f"{page.here}/track", {"targets": [target], "frame": 0, "direction": 1})
    end = time.monotonic() + 60
    while len(page.rows(target)) < 50:
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.full
def test_killed_in_a_run_and_gone_on(clip):
    process, page = started(clip)
    target = page.act("box", target=None, frame=0, box=BOX, name="spot")
    begun(page, target)
    page.act("box", target=None, frame=7, box=BOX, name="second")
    process.kill()
    process.wait()
    file = clip.with_name("clip.mp4.annotation.json")
    assert [one["name"] for one in json.loads(file.read_text())["targets"]] == ["spot", "second"]

    process, page = started(clip)
    assert page.get(page.here)["document"]["order"] == [target, target + 1] and 1 <= len(page.rows(target)) < 3000
    begun(page, target)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 143 and output == "" and errors == "interrupted; the annotation is saved\n"
    assert len(json.loads(file.read_text())["targets"][0]["boxes"]) >= 50
    assert sorted(path.name for path in clip.parent.iterdir()) == ["clip.mp4", "clip.mp4.annotation.json"]


@pytest.mark.full
def test_ended_in_an_upload_beside_pages_that_do_not_read(clip):
    process, page = started(clip.parent)
    host, port = page.base.split("/")[2].split(":")
    head = f"Host: {host}\r\nX-Jaxtrack: 1\r\n"
    with contextlib.ExitStack() as lines:
        for request in (*["GET /api/events"] * 5, "POST /api/videos?name=other.mp4"):
            line = lines.enter_context(socket.create_connection((host, int(port))))
            length = f"Content-Length: {10**6}\r\n" if request.startswith("POST") else ""
            line.sendall(f"{request} HTTP/1.1\r\n{head}{length}\r\n".encode() + bytes(70_000 if length else 0))
        while len(list(clip.parent.iterdir())) < 2:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60) == ("", "interrupted; the annotation is saved\n")
    assert process.returncode == 130 and [path.name for path in clip.parent.iterdir()] == ["clip.mp4"]


@pytest.mark.full
def test_ended_in_a_compilation(clip, tmp_path):
    process, page = started(clip, "dimp_tiny", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "none"))
    target = page.act("box", target=None, frame=0, box=BOX)
    page.post(f"{page.here}/track", {"targets": [target], "frame": 0, "direction": 1})
    while page.get(page.here)["run"]["state"] != "compiling":
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "interrupted; the annotation is saved\n")
    assert process.returncode == 130


def test_a_token_in_the_address(clip, monkeypatch, capsys):
    """Whatever signs it has, the browser gives back what was set."""
    token = "a&b c#%?+'/"
    monkeypatch.setattr("eval.web.serving.serve", lambda *arguments: None)
    assert main([str(clip), "--port", "0", "--tracker", TRACKER, "--token", token]) == 0
    address = capsys.readouterr().out.split(": ", 1)[1].split(" ")[0]
    assert parse_qs(urlsplit(address).query) == {"token": [token]}


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["none.mp4"], "none.mp4: no such file"),
        (["--host", "0.0.0.0"], "give --token"),
        (["--host", "0.0.0.0", "--token", "short"], "give --token"),
        (["--token", "schlüssel mit €"], "ASCII"),
        (["--tracker", "nowhere:TRACKER"], "nowhere"),
        (["--tracker", "dimp_tinny"], "did you mean dimp_tiny"),
        (["--tracker", "dimp18"], "needs a weight file"),
        (["--tracker", "dimp_tiny=none.safetensors"], "none.safetensors"),
        (["--host", "203.0.113.7", "--token", "long enough"], "cannot be listened on"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, monkeypatch, capsys, arguments, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    place = [] if arguments[0].endswith(".mp4") else ["videos"]
    assert main([*place, *arguments, "--port", "0"]) == 1
    told = capsys.readouterr().err
    assert why in told and told.startswith("error: ") and told.count("\n") == 1


def test_a_port_that_is_taken(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main([str(tmp_path), "--port", str(taken.getsockname()[1])]) == 1
    assert "--port 0" in capsys.readouterr().err
