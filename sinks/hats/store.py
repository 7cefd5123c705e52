"""Where a catalogue lies: a folder on this machine's disk, or a prefix in an S3 bucket."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, Final, NamedTuple, Protocol

import pyarrow as pa
from pyarrow import fs

from sinks.errors import NoRoom, SinkError, SinkRefused, SinkUnavailable, is_full

_UNFINISHED: Final = ".unfinished"
_CONNECT_S: Final = 5
_REQUEST_S: Final = 60

# What pyarrow says (in its text only) of requests that no second attempt can mend.
_FINAL: Final = (
    "NO_SUCH_BUCKET",
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "INVALID_CLIENT_TOKEN_ID",
    "UNRECOGNIZED_CLIENT",
)


class Found(NamedTuple):
    """A file that is there."""

    path: str
    size: int


class Store(Protocol):
    """Files by relative path. A file appears whole or not at all, and is durable once written."""

    name: str
    exclusive: ClassVar[bool]
    """Whether `lock` really keeps others out."""

    def lock(self) -> None:
        """Keep every other process out until `unlock`, or until this process ends.

        Raises:
            SinkRefused: another one is in.
        """

    def unlock(self) -> None:
        """Let others in."""

    def tidy(self, folder: str) -> None:
        """Remove what a crash left half done, in a folder that is locked."""

    def files(self, folder: str = "") -> list[Found]:
        """Every file under the folder, in order of path; none if there is no such folder."""

    def folders(self) -> list[str]:
        """Names of the folders at the root, in order."""

    def open(self, path: str) -> pa.NativeFile:
        """The file, for reading at any place in it."""

    def create(self, path: str) -> Any:
        """Context with a stream to write; the file is there when the context ends well."""

    def put(self, path: str, data: bytes | pa.Buffer) -> None:
        """Write a whole file, over an older one if there is one."""

    def link(self, path: str, new: str) -> None:
        """The same bytes under a new path, too."""

    def delete(self, path: str) -> None:
        """Remove a file."""

    def delete_folder(self, path: str) -> None:
        """Remove a folder with all that is in it; no error if there is none."""

    def failure(self, error: Exception) -> SinkError:
        """What an error of this store means for who writes."""


def open_store(location: str | Path, s3: Mapping[str, Any] | None = None) -> Store:
    """The store for a local folder, or for `s3://bucket/prefix`.

    Args:
        location: where the catalogue lies.
        s3: `endpoint_url`, `region_name`, and, unless the environment has them,
            `aws_access_key_id`, `aws_secret_access_key`, `aws_session_token`.
    """
    if str(location).startswith("s3://"):
        return Bucket(str(location).rstrip("/"), s3 or {})
    return Disk(Path(location))


@contextmanager
def failing(store: Store) -> Iterator[None]:
    """Errors of the store, and of what lies in it, as errors of a sink."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise store.failure(error) from error


class Disk:
    """A folder. Files are written aside, synced and renamed, and so are their folders' entries."""

    exclusive: ClassVar[bool] = True

    def __init__(self, root: Path) -> None:
        self.name = root.name
        self._root = root
        self._release: weakref.finalize[..., Disk] | None = None

    def lock(self) -> None:
        """See `Store.lock`. The system lets go of it when the process dies, however it dies."""
        self._root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise SinkRefused(
                f"{self._root} is being written or compacted by another process: "
                "wait for it or stop it, then run again"
            ) from error
        except OSError:
            os.close(descriptor)
            raise
        self._release = weakref.finalize(self, os.close, descriptor)

    def unlock(self) -> None:
        """See `Store.unlock`."""
        if self._release:
            self._release()

    def tidy(self, folder: str) -> None:
        """See `Store.tidy`: files that were written aside, and folders made for them."""
        if (self._root / _UNFINISHED).exists():
            shutil.rmtree(self._root / _UNFINISHED)
        for parent, _, _ in os.walk(self._root / folder, topdown=False):
            self._prune(Path(parent))

    def files(self, folder: str = "") -> list[Found]:
        """See `Store.files`."""
        if not (self._root / folder).exists():
            return []
        found = []
        for parent, folders, names in os.walk(self._root / folder, onerror=_raise):
            folders[:] = [each for each in folders if each != _UNFINISHED]
            for name in names:
                path = Path(parent, name)
                found.append(Found(path.relative_to(self._root).as_posix(), path.stat().st_size))
        return sorted(found)

    def folders(self) -> list[str]:
        """See `Store.folders`."""
        return sorted(each.name for each in self._root.iterdir() if each.is_dir())

    def open(self, path: str) -> pa.NativeFile:
        """See `Store.open`."""
        return pa.OSFile(str(self._root / path))

    @contextmanager
    def create(self, path: str) -> Iterator[IO[bytes]]:
        """See `Store.create`."""
        final = self._root / path
        # Aside, not beside: a leaf's folder never holds anything but whole parts.
        aside = self._root / _UNFINISHED / f"{uuid.uuid4().hex}-{final.name}"
        _make(aside.parent)
        try:
            with aside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _make(final.parent)
            aside.rename(final)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        _sync(final.parent)

    def put(self, path: str, data: bytes | pa.Buffer) -> None:
        """See `Store.put`."""
        with self.create(path) as file:
            file.write(data)

    def link(self, path: str, new: str) -> None:
        """See `Store.link`. No second copy; where the file system has no links, a copy."""
        final = self._root / new
        _make(final.parent)
        try:
            final.hardlink_to(self._root / path)
        except OSError:
            self.put(new, (self._root / path).read_bytes())
        _sync(final.parent)

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        (self._root / path).unlink(missing_ok=True)
        self._prune((self._root / path).parent)

    def _prune(self, folder: Path) -> None:
        """A leaf's folder without parts is a leaf without rows to those who look for folders."""
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:  # It has something in it, as nearly all have.
                return
            folder = folder.parent

    def delete_folder(self, path: str) -> None:
        """See `Store.delete_folder`."""
        if (self._root / path).exists():
            shutil.rmtree(self._root / path)

    def failure(self, error: Exception) -> SinkError:
        """See `Store.failure`: a disk that refuses does so until a person has looked."""
        why = f"{self._root} cannot be used as a HATS catalogue ({error})"
        if is_full(error):
            return NoRoom(f"{why}: make room on the disk")
        return SinkRefused(f"{why}: check the folder and its permissions, then run again")


class Bucket:
    """A prefix in an S3 bucket. A put is atomic by itself, and nothing keeps others out."""

    exclusive: ClassVar[bool] = False

    def __init__(self, location: str, s3: Mapping[str, Any]) -> None:
        self.name = location
        self._root = location.removeprefix("s3://")
        self._s3 = s3
        self._connected: fs.S3FileSystem | None = None

    @property
    def _fs(self) -> fs.S3FileSystem:
        if self._connected is None:
            scheme, _, host = str(self._s3.get("endpoint_url") or "").rpartition("://")
            self._connected = fs.S3FileSystem(
                access_key=self._s3.get("aws_access_key_id"),
                secret_key=self._s3.get("aws_secret_access_key"),
                session_token=self._s3.get("aws_session_token"),
                region=self._s3.get("region_name"),
                scheme=scheme or None,
                endpoint_override=host or None,
                connect_timeout=_CONNECT_S,
                request_timeout=_REQUEST_S,
                # Who writes tries again. And small files go in one request, not in three.
                retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
                allow_delayed_open=True,
                background_writes=False,
            )
        return self._connected

    def lock(self) -> None:
        """See `Store.lock`: a bucket has no locks. One writer must be seen to from outside."""

    def unlock(self) -> None:
        """See `Store.unlock`."""

    def tidy(self, folder: str) -> None:
        """See `Store.tidy`: an upload that did not end is not there at all."""

    def files(self, folder: str = "") -> list[Found]:
        """See `Store.files`."""
        infos = self._infos(folder, recursive=True)
        return sorted(
            Found(info.path.removeprefix(f"{self._root}/"), info.size)
            for info in infos
            if info.type == fs.FileType.File
        )

    def folders(self) -> list[str]:
        """See `Store.folders`."""
        infos = self._infos("", recursive=False)
        return sorted(info.base_name for info in infos if info.type == fs.FileType.Directory)

    def _infos(self, folder: str, *, recursive: bool) -> list[fs.FileInfo]:
        where = f"{self._root}/{folder}".rstrip("/")
        selector = fs.FileSelector(where, allow_not_found=True, recursive=recursive)
        infos: list[fs.FileInfo] = self._fs.get_file_info(selector)
        return infos

    def open(self, path: str) -> pa.NativeFile:
        """See `Store.open`."""
        return self._fs.open_input_file(f"{self._root}/{path}")

    @contextmanager
    def create(self, path: str) -> Iterator[pa.NativeFile]:
        """See `Store.create`.

        An error in the context can leave a broken object, so no reader may know its path yet.
        """
        with self._fs.open_output_stream(f"{self._root}/{path}", compression=None) as stream:
            yield stream

    def put(self, path: str, data: bytes | pa.Buffer) -> None:
        """See `Store.put`."""
        with self.create(path) as stream:
            stream.write(data)

    def link(self, path: str, new: str) -> None:
        """See `Store.link`: copied inside the bucket, nothing comes through here."""
        self._fs.copy_file(f"{self._root}/{path}", f"{self._root}/{new}")

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        self._fs.delete_file(f"{self._root}/{path}")

    def delete_folder(self, path: str) -> None:
        """See `Store.delete_folder`."""
        self._fs.delete_dir_contents(f"{self._root}/{path}", missing_dir_ok=True)

    def failure(self, error: Exception) -> SinkError:
        """See `Store.failure`."""
        if isinstance(error, pa.ArrowInvalid) or any(each in str(error) for each in _FINAL):
            return SinkRefused(
                f"{self.name} cannot be used as a HATS catalogue ({error}): "
                "check the bucket's name, the credentials and their permissions, then run again"
            )
        return SinkUnavailable(f"{self.name} does not answer as it should: {error}")


def _raise(error: OSError) -> None:
    """What `os.walk` would pass over: a folder that cannot be read may hold keys."""
    raise error


def _make(folder: Path) -> None:
    """Make the folder and its parents, each of them durable."""
    if folder.is_dir():
        return
    _make(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync(folder.parent)


def _sync(folder: Path) -> None:
    """A new entry in a folder is durable only when the folder is on disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
