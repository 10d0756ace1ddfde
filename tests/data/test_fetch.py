"""Downloads against a server on this machine: whole, broken off, changed in between, damaged, and none at all."""

from __future__ import annotations

import hashlib
import io
import logging
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from plum.data import fetch as fetching
from plum.data.fetch import fetch, locate
from plum.data.movielens import RELEASES, load_movielens
from plum.errors import PlumError

NAME = "ml-latest-small"


def release_zip(lacking: str = "", seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).bytes(400_000)  # does not compress: the download takes several blocks
    files = {
        "ratings.csv": b"userId,movieId,rating,timestamp\n1,1,4.0,964982703\n",
        "movies.csv": b"movieId,title,genres\n1,Toy Story (1995),Animation|Comedy\n",
        "noise.bin": noise,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            if name != lacking:
                archive.writestr(f"{NAME}/{name}", content)
    return buffer.getvalue()


class Server(ThreadingHTTPServer):
    """Serves one file, with ranges; breaks off responses after the numbers of bytes in ``breaks``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = release_zip()
        self.tag = '"v1"'
        self.breaks: list[int] = []
        self.ranges: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.ranges.append(wanted)
        if not self.path.endswith(".zip") or "missing" in self.path:
            self.send_error(404)
            return
        start = int(wanted[6:-1]) if wanted and self.headers.get("If-Range") == server.tag else 0
        if start >= len(server.content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", server.tag)
        self.end_headers()
        if server.breaks:
            body = body[: server.breaks.pop(0)]
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir())


def test_download_places_the_zip_and_shows_the_licence(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    with caplog.at_level(logging.INFO):
        path = fetch(NAME, home, base_url=server.url)
    assert path == home / f"{NAME}.zip"
    assert names(home) == [f"{NAME}.zip"]
    assert path.read_bytes() == server.content
    assert "no commercial use" in caplog.text
    assert capsys.readouterr() == ("", "")  # not a terminal: no progress bar, nothing from pooch
    assert load_movielens(home, NAME, check_counts=False).items["title"].tolist() == ["Toy Story (1995)"]
    assert locate(NAME, home) == path


def test_there_already_is_returned_without_network(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "ratings.csv").write_text("x")
    assert fetch(NAME, tmp_path, base_url=server.url) == tmp_path / NAME
    assert server.ranges == []


def test_goes_on_within_a_call(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000] * 4  # more breaks than attempts, but each brings something
    path = fetch(NAME, tmp_path, base_url=server.url)
    assert path.read_bytes() == server.content
    assert server.ranges == [None, "bytes=65536-", "bytes=131072-", "bytes=196608-", "bytes=262144-"]
    assert names(tmp_path) == [f"{NAME}.zip"]


def test_goes_on_in_the_next_call(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000, 0, 0, 0]
    with pytest.raises(PlumError, match=r"run the command again to resume from 65,536 bytes") as caught:
        fetch(NAME, tmp_path, base_url=server.url)
    assert f"{server.url}/{NAME}.zip" in str(caught.value)
    assert f"{NAME}.zip" not in names(tmp_path)
    path = fetch(NAME, tmp_path, base_url=server.url)
    assert path.read_bytes() == server.content
    assert server.ranges[-1] == "bytes=65536-"


def test_changed_release_is_begun_anew(server: Server, tmp_path: Path) -> None:
    server.breaks = [100_000, 0, 0, 0]
    with pytest.raises(PlumError):
        fetch(NAME, tmp_path, base_url=server.url)
    server.tag = '"v2"'
    server.content = release_zip(seed=1)
    assert fetch(NAME, tmp_path, base_url=server.url).read_bytes() == server.content


def test_whole_part_is_taken(server: Server, tmp_path: Path) -> None:
    """Killed after the last byte and before the rename."""
    (tmp_path / f"{NAME}.zip.part").write_bytes(server.content)
    (tmp_path / f"{NAME}.zip.part.tag").write_text(server.tag)
    assert fetch(NAME, tmp_path, base_url=server.url).read_bytes() == server.content


def test_part_longer_than_the_file_is_thrown_away(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{NAME}.zip.part").write_bytes(server.content + b"more")
    (tmp_path / f"{NAME}.zip.part.tag").write_text(server.tag)
    assert fetch(NAME, tmp_path, base_url=server.url).read_bytes() == server.content


def test_checksum(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.md5(server.content).hexdigest()
    monkeypatch.setitem(RELEASES, NAME, replace(RELEASES[NAME], md5=digest))
    assert fetch(NAME, tmp_path / "a", base_url=server.url).read_bytes() == server.content
    with pytest.raises(PlumError, match=r"checksum of the download is not the published one(.|\n)*run plum data fetch"):
        fetch("ml-100k", tmp_path / "b", base_url=server.url)
    assert names(tmp_path / "b") == []


@pytest.mark.parametrize("damage", ["cut", "member", "lacking"])
def test_release_without_checksum_is_checked_by_structure(server: Server, tmp_path: Path, damage: str) -> None:
    if damage == "cut":
        server.content = server.content[:-100]
    elif damage == "member":
        server.content = server.content.replace(b"Toy Story", b"Toy Glory")
    else:
        server.content = release_zip("movies.csv")
    with pytest.raises(PlumError, match="is incomplete"):
        fetch(NAME, tmp_path, base_url=server.url)
    assert names(tmp_path) == []


def test_without_network_says_what_to_place_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(PlumError) as caught:
        fetch("ml-1m", tmp_path, base_url="http://127.0.0.1:9")
    message = str(caught.value)
    assert "http://127.0.0.1:9/ml-1m.zip can't be downloaded" in message
    assert f"place it at {tmp_path / 'ml-1m.zip'}" in message
    assert names(tmp_path) == []


def test_not_on_the_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(PlumError, match=r"404(.|\n)*place it at"):
        fetch(NAME, tmp_path, base_url=server.url + "/missing")


def test_home_that_cannot_be_made(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PlumError, match="can't be written"):
        fetch(NAME, tmp_path / "file" / "home", base_url=server.url)


def test_truncated_zip_is_told_by_locate_and_fetch(server: Server, tmp_path: Path) -> None:
    (tmp_path / "ml-1m.zip").write_bytes(server.content[:1000])
    for find in (locate, fetch):
        with pytest.raises(PlumError, match=r"ml-1m\.zip is not a complete zip archive(.|\n)*1,000 bytes"):
            find("ml-1m", tmp_path)


def test_locate_without_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(PlumError, match=r"ml-1m is not in(.|\n)*it holds: other(.|\n)*plum data fetch ml-1m"):
        locate("ml-1m", tmp_path)
    with pytest.raises(PlumError, match="there is no folder"):
        locate("ml-1m", tmp_path / "nowhere")


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(PlumError, match=r"unknown data set 'ml-1000k'(.|\n)*did you mean ml-100k\?"):
        fetch("ml-1000k", tmp_path)


def test_amazon_must_be_placed_by_hand(tmp_path: Path) -> None:
    with pytest.raises(PlumError) as caught:
        fetch("amazon-2014/Beauty", tmp_path)
    assert "no stable official address" in str(caught.value)
    assert "place Beauty.txt" in str(caught.value)
    assert str(tmp_path / "amazon-2014") in str(caught.value)
    (tmp_path / "amazon-2014").mkdir()
    (tmp_path / "amazon-2014" / "Beauty.txt").write_text("1 1\n")
    assert fetch("amazon-2014/Beauty", tmp_path) == locate("amazon-2014", tmp_path) == tmp_path / "amazon-2014"


def test_every_fixed_release_has_a_checksum_and_counts() -> None:
    for name, release in RELEASES.items():
        fixed = not name.startswith("ml-latest")
        assert (release.md5 is not None) == (release.counts is not None) == fixed
    assert fetching.GROUPLENS.startswith("https://files.grouplens.org/")
