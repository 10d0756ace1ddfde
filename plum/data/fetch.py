"""Find a public data set in the data home, and download it from its official host if it isn't there."""

from __future__ import annotations

import difflib
import logging
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plum import runtime
from plum.data.amazon_sequences import SEQUENCE_COUNTS, find_sequences
from plum.data.movielens import RELEASES, find_release, open_zip, release_opener
from plum.errors import PlumError
from plum.run.writing import explained, system_error

log = logging.getLogger(__name__)

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
AMAZON = "amazon-2014"
_BLOCK = 1 << 16  # bytes; a broken connection loses less than this
_ATTEMPTS = 3  # consecutive failures without new bytes before giving up
_TIMEOUT = (10, 60)  # seconds to connect, and between bytes


def locate(name: str, home: Path) -> Path:
    """Find a data set in the data home, without network.

    Args:
        name: ``ml-100k`` and other keys of ``RELEASES``; ``amazon-2014/Beauty`` and the like.
        home: the data home.

    Returns:
        The folder or zip of a MovieLens release, or the folder that holds the files of an Amazon set.

    Raises:
        PlumError: for an unknown name, a zip that was cut short, or a data set that isn't there.
    """
    if name in RELEASES:
        found = find_release(home, name)
        if found is None:
            raise PlumError(f"{name} is not in {home}", _listing(home), f"get it with: plum data fetch {name}")
        if found.is_file():
            open_zip(found).close()
        return found
    if name.split("/")[0] != AMAZON:
        known = [*RELEASES, *(f"{AMAZON}/{part}" for part in SEQUENCE_COUNTS)]
        near = difflib.get_close_matches(name, known, n=1)
        fix = f"did you mean {near[0]}?" if near else "pick one of them"
        raise PlumError(f"unknown data set {name!r}", f"known: {', '.join(known)}", fix)
    parts = [name.split("/", 1)[1]] if "/" in name else sorted(SEQUENCE_COUNTS)
    for part in parts:
        if (file := find_sequences(home, part)) is not None:
            return file.parent
    raise PlumError(
        f"{name} is not in {home}",
        "these 5-core sequences have no stable official address, so they can't be downloaded",
        f"place {' or '.join(f'{part}.txt' for part in parts)} (lines 'user item item ...') and "
        f"NAME_item2attributes.json, as prepared for S3-Rec (github.com/RUCAIBox/CIKM2020-S3Rec, folder data), in "
        f"{home / AMAZON}; titles and days may lie beside them (docs/data-files.md); or use McAuley's raw reviews with "
        "source kind amazon-reviews",
    )


def fetch(name: str, home: Path, *, base_url: str = GROUPLENS) -> Path:
    """Find a data set in the data home, or download it there.

    An interrupted download leaves ``NAME.zip.part``, from which the next call resumes. The zip gets its name only once
    it is complete: its checksum is the published one or, for releases that change over time, every member passes its
    own.

    Args:
        name: as in :func:`locate`.
        home: the data home; made if needed.
        base_url: folder of the zips; change it for a mirror.

    Returns:
        As :func:`locate`.

    Raises:
        PlumError: for an unknown name, without network (it says which file to place where), for a wrong checksum, and
            for data without an official address.
    """
    if name not in RELEASES or find_release(home, name) is not None:
        return locate(name, home)
    release, target = RELEASES[name], home / f"{name}.zip"
    url = f"{base_url}/{name}.zip"
    by_hand = f"download {url} on a machine with network and place it at {target} (or unpack it to {home / name})"
    log.info("fetching %s to %s", url, target)
    log.info("licence of %s: %s", name, release.licence)
    import pooch

    try:
        home.mkdir(parents=True, exist_ok=True)
        known = f"md5:{release.md5}" if release.md5 else None
        with _quiet(pooch):
            pooch.retrieve(url, known, fname=target.name, path=home, downloader=_Resuming(target, by_hand))
    except ValueError as error:  # pooch raises this for a wrong checksum, after deleting the file
        raise PlumError(
            f"{url}: the checksum of the download is not the published one",
            str(error),
            f"the download was deleted: run plum data fetch {name} again; if it fails again, {by_hand}",
        ) from error
    except OSError as error:
        told = explained(error, system_error(error) or 0, target, elsewhere="data home (PLUM_DATA_HOME)")
        raise PlumError(f"{target} can't be written", f"{told.what}, {told.found}", told.fix) from error
    if release.md5 is None:
        _check_members(target, name)
    return target


def _listing(home: Path) -> str:
    if not home.is_dir():
        return f"there is no folder {home}"
    names = sorted(path.name for path in home.iterdir())
    return f"it holds: {', '.join(names[:12]) or 'nothing'}" + (", ..." if len(names) > 12 else "")


def _check_members(archive: Path, name: str) -> None:
    """Check that a zip without a published checksum is complete; delete it if it is not.

    Raises:
        PlumError: if a member is damaged or a needed file is missing.
    """
    found: str | None
    try:
        with zipfile.ZipFile(archive) as opened:
            bad = opened.testzip()
        found = f"{bad} is damaged" if bad else None
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        found = str(error)
    if found is None:
        opener, release = release_opener(archive, name), RELEASES[name]
        lacking = [table.file for table in (release.ratings, release.movies) if opener(table.file) is None]
        found = f"it lacks {', '.join(lacking)}" if lacking else None
    if found is not None:
        archive.unlink()
        raise PlumError(f"the download of {name} is incomplete", found, f"run plum data fetch {name} again")


@contextmanager
def _quiet(pooch: Any) -> Iterator[None]:
    """Silence pooch's log, which tells users to paste hashes into code."""
    logger = pooch.get_logger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Resuming:
    """Downloader for pooch that keeps what has arrived in ``TARGET.part`` and resumes from there.

    ``TARGET.part.tag`` holds the server's version (ETag or date) of the file. If the release changed in between, the
    download starts again instead of mixing two versions.
    """

    def __init__(self, target: Path, by_hand: str) -> None:
        self.part = target.with_name(target.name + ".part")
        self.tag = target.with_name(target.name + ".part.tag")
        self.by_hand = by_hand

    def __call__(self, url: str, output_file: Any, pooch: Any) -> None:
        """Download ``url`` to ``output_file``.

        Raises:
            PlumError: if the server can't be reached, refuses, or closes the connection several times.
        """
        import requests

        failure: Exception | None = None
        stuck = 0
        while stuck < _ATTEMPTS:
            before = self._arrived()
            try:
                self._go_on(url)
                self.part.replace(output_file)
                self.tag.unlink(missing_ok=True)
                return
            except requests.HTTPError as error:
                raise PlumError(f"{url} can't be downloaded", str(error), self.by_hand) from error
            except requests.RequestException as error:
                failure = error
                if not self.part.exists():
                    break  # nothing ever arrived: without network, trying again only makes users wait
                stuck = 0 if self._arrived() > before else stuck + 1
        arrived = self._arrived()
        again = f"run the command again to resume from {arrived:,} bytes; or " if arrived else ""
        raise PlumError(f"{url} can't be downloaded", str(failure), again + self.by_hand) from failure

    def _arrived(self) -> int:
        """Bytes in the part file from which the download may resume."""
        return self.part.stat().st_size if self.part.exists() and self.tag.exists() else 0

    def _go_on(self, url: str) -> None:
        """Fetch what is missing from the part file.

        Raises:
            requests.RequestException: if the connection fails or ends before the file does.
        """
        import requests

        have = self._arrived()
        headers = {"Accept-Encoding": "identity"}
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self.tag.read_text()}
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if have and response.status_code == 416:  # the part is longer than the file, or just as long
                if not response.headers.get("Content-Range", "").endswith(f"/{have}"):
                    self.part.unlink()
                    self._go_on(url)
                return
            response.raise_for_status()
            if response.status_code != 206:
                have = 0
            length = int(response.headers.get("Content-Length", 0))
            total = have + length if length else None
            if have:
                log.info("resuming from %s bytes", f"{have:,}")
            version = response.headers.get("ETag") or response.headers.get("Last-Modified")
            if version and not version.startswith("W/"):  # a weak tag can't vouch for single bytes
                self.tag.write_text(version)
            else:
                self.tag.unlink(missing_ok=True)
            arrived = self._write(response, have, total)
        if total is not None and arrived < total:
            raise requests.ConnectionError(f"the connection ended after {arrived:,} of {total:,} bytes")

    def _write(self, response: Any, have: int, total: int | None) -> int:
        """Append the body to the part file, with a progress bar on a terminal. Returns the bytes there are then."""
        with (
            runtime.progress(self.part.stem, total, have, unit="bytes") as show,
            self.part.open("ab" if have else "wb") as file,
        ):
            for block in response.iter_content(_BLOCK):
                file.write(block)
                have += len(block)
                show(have)
        return have
