"""Official models by name, from a server on this machine that does what servers do."""

import hashlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import foreign
import pytest

from latentlab.formats import nvlabs
from latentlab.stylegan import Generator, GeneratorConfig
from latentlab.weights import downloads, generators
from latentlab.weights.downloads import BLOCK, CACHE, MODELS, Model, cache_folder, fetch_model

CONTENT = bytes(range(256)) * 4096  # 1 MiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>"


class Server(BaseHTTPRequestHandler):
    """/whole; /breaks, which closes in the middle each time; /quota, which leads to a page; and a few more."""

    ranges: list[str | None] = []
    breaks_off = 3
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        Server.ranges.append(self.headers.get("Range"))
        getattr(self, self.path[1:])()

    def answer(self, content, status=200, kind="application/octet-stream", length=None, **headers):
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": length or len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def whole(self):
        self.answer(CONTENT)

    def unsized(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONTENT)

    def breaks(self):
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        Server.breaks_off -= 1
        end = min(start + 200_000, len(CONTENT)) if Server.breaks_off >= 0 else len(CONTENT)
        span = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"} if start else {}
        self.answer(CONTENT[start:end], 206 if start else 200, length=len(CONTENT) - start, **span)

    def forgetful(self):
        """Knows no ranges: sends everything again."""
        Server.breaks_off -= 1
        self.answer(CONTENT[:50_000] if Server.breaks_off >= 0 else CONTENT, length=len(CONTENT))

    def never(self):
        self.answer(b"", length=len(CONTENT))

    def quota(self):
        self.answer(b"", 302, Location="/page")

    def page(self):
        self.answer(PAGE, kind="text/html; charset=utf-8")

    def disguised(self):
        self.answer(PAGE)

    def missing(self):
        self.answer(b"", 404)

    def out_of_range(self):
        self.answer(b"", 416) if self.headers.get("Range") else self.whole()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Server.ranges, Server.breaks_off = [], 3
    return tmp_path / "cache" / "models"


def model(url: str, sha256: str | None = None) -> dict[str, Model]:
    return {"m": Model(url, "https://example.org/weights", "MIT", sha256)}


def fetch(url: str, sha256: str | None = SHA256) -> Path:
    with pytest.warns(UserWarning, match="m: MIT; see https://example.org"):
        return fetch_model("m", model(url, sha256))


@pytest.mark.parametrize("way", ["whole", "unsized"])
def test_a_model_is_downloaded_once(address, cache, way):
    path = fetch(f"{address}/{way}")
    assert path == cache / "m" and path.read_bytes() == CONTENT
    assert fetch_model("m", model(f"{address}/{way}", SHA256)) == path  # no second licence note, no second request
    assert len(Server.ranges) == 1 and [p.name for p in cache.iterdir() if p.suffix == ".partial"] == []


def test_a_broken_download_goes_on(address, cache):
    """Three attempts a call, each from where the one before ended; what is kept serves the next call."""
    with pytest.raises(ConnectionError, match=r"broke off after 576 KiB, which are kept.* get it by hand from https"):
        fetch_model("m", model(f"{address}/breaks", SHA256))
    whole = 200_000 // BLOCK * BLOCK  # the last block of each answer was cut off
    assert (cache / "m.partial").stat().st_size == 3 * whole
    assert fetch(f"{address}/breaks").read_bytes() == CONTENT
    assert Server.ranges == [None, f"bytes={whole}-", f"bytes={2 * whole}-", f"bytes={3 * whole}-"]


def test_servers_without_ranges_send_everything_again(address, cache):
    Server.breaks_off = 1
    assert fetch(f"{address}/forgetful").read_bytes() == CONTENT
    (cache / "m").unlink()
    (cache / "m.partial").write_bytes(bytes(10))
    fetch_model("m", model(f"{address}/out_of_range", SHA256))  # what the server has no rest of begins anew
    with pytest.raises(ConnectionError, match="broke off after 0 KiB"):
        fetch_model("n", {"n": Model(f"{address}/never", "", "", None)})


@pytest.mark.parametrize("way", ["quota", "disguised"])
@pytest.mark.parametrize("sha256", [SHA256, None])
def test_a_page_in_the_place_of_the_file_is_told(address, cache, way, sha256):
    with pytest.raises(ValueError, match=r"m: .* answered with a web page .*quota page.*by hand from https://example.org"):
        fetch_model("m", model(f"{address}/{way}", sha256))
    assert list(cache.iterdir()) == []


def test_another_file_than_the_published_one_is_refused(address, cache):
    with pytest.raises(ValueError, match=f"m: .* sent is another file: expected the sha256 {'0' * 64}.*deleted"):
        fetch_model("m", model(f"{address}/whole", "0" * 64))
    assert list(cache.iterdir()) == []


def test_what_came_first_is_recorded_and_expected_later(address, cache):
    path = fetch(f"{address}/whole", None)
    assert (cache / "m.sha256").read_text().strip() == SHA256
    path.write_bytes(b"damaged")
    fetch_model("m", model(f"{address}/whole"))
    assert path.read_bytes() == CONTENT
    path.unlink()
    (cache / "m.sha256").write_text("0" * 64)
    with pytest.raises(ValueError, match="recorded at the first download"):
        fetch_model("m", model(f"{address}/whole"))


def test_errors_of_the_server_are_told(address):
    with pytest.raises(ConnectionError, match="m: .*/missing answers 404 Not Found"):
        fetch_model("m", model(f"{address}/missing"))


def test_no_network_is_told_at_once(monkeypatch):
    """A name that cannot be looked up in time, and a port that nobody listens on."""
    def slow(*_, **__):
        time.sleep(30)

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/x"
    with pytest.raises(ConnectionError, match="m: no connection to 127.0.0.1 within a second.*by hand from https"):
        fetch_model("m", model(url))
    monkeypatch.setattr(socket, "create_connection", slow)
    waited = []
    join = threading.Thread.join
    monkeypatch.setattr(threading.Thread, "join", lambda self, seconds: waited.append(seconds) or join(self, 0.01))
    with pytest.raises(ConnectionError, match="no connection to nvidia.example"):
        fetch_model("m", model("https://nvidia.example/x"))
    assert sum(waited) < 1


def test_a_proxy_is_what_must_be_reached(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="no connection to 127.0.0.1"):
        fetch_model("m", model("https://nvidia.example/x"))


def test_load_opens_official_models_by_name(address, tmp_path, monkeypatch):
    state = Generator(GeneratorConfig(8, 3, 4, 1, (3, 2)), seed=1).state_dict()
    content = foreign.dump_nvidia(nvlabs.generator_to(state), tmp_path / "a.pkl").read_bytes()
    monkeypatch.setattr(Server, "whole", lambda self: self.answer(content))
    monkeypatch.setitem(MODELS, "ffhq-1024", model(f"{address}/whole")["m"])
    with pytest.warns(UserWarning, match="ffhq-1024: MIT"):
        assert generators.load("ffhq-1024").resolution == 8
    assert (cache_folder("models") / "ffhq-1024").is_file()


def test_the_cache_folder_is_the_platforms_unless_named(monkeypatch, tmp_path):
    assert cache_folder("models") == tmp_path / "cache" / "models"
    monkeypatch.delenv(CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert "latentlab" in str(cache_folder("models")) and cache_folder("models").name == "models"


def test_every_model_has_an_address_and_a_licence():
    assert all(m.url.startswith("https://") and m.page.startswith("https://") and m.license for m in MODELS.values())
    assert downloads.PATIENCE < 1
