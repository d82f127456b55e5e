"""Official models by name: downloaded once into the user's cache folder, resumed, and verified."""

import hashlib
import os
import socket
import threading
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import urlsplit

from tqdm.auto import tqdm

CACHE = "LATENTLAB_CACHE"  # environment variable: another cache folder than the platform's
PATIENCE = 0.9  # seconds in which a server must take a connection
ATTEMPTS = 3
BLOCK = 2**14  # bytes; where a connection breaks, less than this is lost


@dataclass(frozen=True)
class Model:
    """Where an official model is published. sha256 is None where its authors published none: then what the first
    download brought is recorded, and later ones must equal it."""

    url: str
    page: str
    license: str
    sha256: str | None = None


_NVIDIA = "https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan2/versions/1/files/"
_NVIDIA_PAGE = "https://github.com/NVlabs/stylegan3#additional-material"
_NVIDIA_LICENSE = "NVIDIA Source Code License, non-commercial use only"
_DRIVE = "https://drive.usercontent.google.com/download?export=download&confirm=t&id="
_E4E = "https://github.com/omertov/encoder4editing#pretrained-models"
_PSP = "https://github.com/eladrich/pixel2style2pixel#pretrained-models"


def _nvidia(file: str) -> Model:
    return Model(f"{_NVIDIA}stylegan2-{file}.pkl", _NVIDIA_PAGE, _NVIDIA_LICENSE)


MODELS: Mapping[str, Model] = {
    "ffhq-1024": _nvidia("ffhq-1024x1024"),
    "ffhq-512": _nvidia("ffhq-512x512"),
    "ffhq-256": _nvidia("ffhq-256x256"),
    "metfaces-1024": _nvidia("metfaces-1024x1024"),
    "afhqv2-512": _nvidia("afhqv2-512x512"),
    "cifar10-32": _nvidia("cifar10-32x32"),
    "e4e-ffhq-1024": Model(f"{_DRIVE}1cUv_reLE6k3604or78EranS7XzuVMWeO", _E4E,
                           f"MIT (encoder) and {_NVIDIA_LICENSE} (generator)"),
    "psp-ffhq-1024": Model(f"{_DRIVE}1bMTNWkh5LArlaWSc_wa8VKyq2V42T2z0", _PSP,
                           f"MIT (encoder) and {_NVIDIA_LICENSE} (generator)"),
}  # fmt: skip


def cache_folder(name: str) -> Path:
    """A folder of the user's cache: of ``LATENTLAB_CACHE`` if that is set, else where the platform keeps caches."""
    import pooch

    return Path(os.environ.get(CACHE) or pooch.os_cache("latentlab")).expanduser() / name


def fetch_model(name: str, models: Mapping[str, Model] = MODELS) -> Path:
    """The file of an official model, downloaded if it is not in the cache folder yet.

    Raises ``ValueError`` where a server sends something else than the file, and ``ConnectionError``, within a second
    where there is no network; both say how to get the file by hand. What a broken download brought is kept, and the
    next one goes on from there.
    """
    model, folder = models[name], cache_folder("models")
    path, record = folder / name, folder / f"{name}.sha256"
    expected = model.sha256 or (record.read_text().strip() if record.is_file() else None)
    by_hand = f"or get it by hand from {model.page} and pass its path"
    try:
        _retrieve(model.url, path, expected)
    except (ValueError, OSError) as error:
        kind = ValueError if isinstance(error, ValueError) else ConnectionError
        raise kind(f"{name}: {error}; {by_hand}") from error
    if not record.is_file():
        with open(path, "rb") as file:
            record.write_text(hashlib.file_digest(file, "sha256").hexdigest() + "\n")
        warnings.warn(f"{name}: {model.license}; see {model.page}", stacklevel=4)
    return path


def _retrieve(url: str, path: Path, sha256: str | None) -> None:
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would report to stderr what the progress bar shows
    partial = path.with_name(path.name + ".partial")
    try:
        pooch.retrieve(url, sha256 and f"sha256:{sha256}", path.name, path.parent,
                       downloader=lambda url, out, _: _download(url, Path(out), partial))  # fmt: skip
    except ValueError as error:
        if "hash of downloaded file" not in str(error):
            raise
        raise ValueError(f"what {url} sent is another file: expected the sha256 {sha256}, which was published or "
                         "recorded at the first download; it was deleted. Try again later") from error  # fmt: skip


def _download(url: str, out: Path, partial: Path) -> None:
    """Downloads into ``partial``, from where it ended if it is there, and moves it to ``out`` when it is whole."""
    import requests

    _check_reachable(url)
    for _ in range(ATTEMPTS):
        before = partial.stat().st_size if partial.is_file() else 0
        try:
            total = _continue(url, partial, before)
        except requests.HTTPError as error:
            raise ConnectionError(f"{url} answers {error.response.status_code} {error.response.reason}") from error
        except requests.RequestException:
            total = None
        have = partial.stat().st_size if partial.is_file() else 0
        if have == total:
            os.replace(partial, out)
            return
    raise ConnectionError(f"the download from {url} broke off after {have >> 10} KiB, which are kept: run it again")


def _continue(url: str, partial: Path, start: int) -> int:
    """Appends to ``partial`` what the server has from byte ``start`` on; returns how long the file should be."""
    import requests

    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=30) as answer:
        if answer.status_code == 416:  # the file is not what it was
            partial.unlink()
            raise requests.ConnectionError("no such range")
        answer.raise_for_status()
        start = start if answer.status_code == 206 else 0
        length = answer.headers.get("Content-Length")
        blocks = answer.iter_content(BLOCK)
        first = next(blocks, b"")
        is_page = start == 0 and first.lstrip()[:9].lower().startswith((b"<!doctype", b"<html"))
        if is_page or answer.headers.get("Content-Type", "").startswith("text/html"):
            raise ValueError(f"{url} answered with a web page ({answer.url}), not with the file: a login or quota "
                             "page; try again later")  # fmt: skip
        total = None if length is None else start + int(length)
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=partial.stem, leave=False)
        with open(partial, "ab" if start else "wb") as file, bar:
            for block in chain([first], blocks):
                file.write(block)
                bar.update(len(block))
    return partial.stat().st_size if total is None else total


def _check_reachable(url: str) -> None:
    """Raises ``ConnectionError`` unless the server, or the proxy on the way, takes a connection within ``PATIENCE``.

    Looking up a name cannot be given a time limit, so it is done in a thread that is left behind.
    """
    import requests

    way = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url)) or url
    parts = urlsplit(way)
    port = parts.port or {"https": 443}.get(parts.scheme, 80)
    reached = threading.Event()

    def connect() -> None:
        try:
            socket.create_connection((parts.hostname, port), timeout=PATIENCE).close()
            reached.set()
        except Exception:  # whatever fails here counts as unreachable; the thread may outlive its caller
            pass

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not reached.is_set():
        raise ConnectionError(f"no connection to {parts.hostname} within a second: is there a network?")
