"""A real S3 server on 127.0.0.1: S3Proxy, over a folder of files."""

import shutil
import time
import urllib.error
import urllib.request
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import obstore
from obstore.store import S3Store

from imagetools.scratch import Scratch
from local_kafka.ports import free_ports
from local_kafka.process import JavaProcess
from local_kafka.programs import Program, fetch

VERSION = "4.1.0"
S3PROXY = Program(f"S3Proxy {VERSION}", (f"org.gaul:s3proxy:{VERSION}",), megabytes=55)
KEY, SECRET = "test-key", "test-secret"
START_S = 60.0

SETTINGS = """
s3proxy.endpoint={endpoint}
s3proxy.authorization=aws-v2-or-v4
s3proxy.identity={key}
s3proxy.credential={secret}
jclouds.provider=filesystem-nio2
jclouds.identity=none
jclouds.credential=none
jclouds.filesystem.basedir={folder}
"""

QUIET = """<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%m%n</pattern></encoder></appender>
  <root level="warn"><appender-ref ref="out"/></root>
</configuration>
"""


@dataclass(frozen=True)
class Bucket:
    """One bucket.

    folder    its objects, as files
    endpoint  of its server, or of something in front of it
    """

    name: str
    folder: Path
    endpoint: str

    @property
    def address(self) -> str:
        """For IMAGES_DIR."""
        return f"s3://{self.name}"

    @property
    def environ(self) -> dict[str, str]:
        """The variables by which clients find the server and are let in."""
        return environ(self.endpoint)

    def put(self, **objects: bytes) -> None:
        """Store objects by their keys."""
        for key, data in objects.items():
            self.put_as(key, data)

    def put_as(self, key: str, data: bytes) -> None:
        """Store one object."""
        obstore.put(self._store(), key, data)

    def delete(self, key: str) -> None:
        """Delete one object."""
        obstore.delete(self._store(), key)

    def vanish(self) -> None:
        """Remove the bucket with everything in it."""
        shutil.rmtree(self.folder)

    def _store(self) -> S3Store:
        return S3Store(
            self.name,
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )


def environ(endpoint: str, secret: str = SECRET) -> dict[str, str]:
    """The variables that AWS's own tools read."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }


class ObjectServer:
    """An S3 server that ends with the process that started it."""

    def __init__(self) -> None:
        """Start on a free port; return when it answers."""
        jars = fetch(S3PROXY)
        with ExitStack() as undo:
            self._scratch = Scratch("imagetools-s3-")
            undo.callback(self._scratch.close)
            self._folder = self._scratch.path / "buckets"
            self._folder.mkdir()
            (port,) = free_ports(1)
            self.endpoint = f"http://127.0.0.1:{port}"
            settings, logback = self._scratch.path / "s3proxy.conf", self._scratch.path / "logback.xml"
            settings.write_text(SETTINGS.format(endpoint=self.endpoint, key=KEY, secret=SECRET, folder=self._folder))
            logback.write_text(QUIET)
            self._process = JavaProcess(
                ["-Xmx256m", "-XX:TieredStopAtLevel=1", f"-Dlogback.configurationFile={logback}",
                 "-cp", f"{jars}/*", "org.gaul.s3proxy.Main", "--properties", str(settings)],
                log=self._scratch.path / "s3proxy.log", scratch=self._scratch.path,
            )  # fmt: skip
            undo.callback(self._process.stop, 0)
            self._wait()
            undo.pop_all()

    def bucket(self) -> Bucket:
        """Make an empty bucket of a name that no other has."""
        name = f"b{uuid.uuid4().hex[:12]}"
        (self._folder / name).mkdir()
        return Bucket(name, self._folder / name, self.endpoint)

    def stop(self) -> None:
        """Stop it. Idempotent."""
        self._process.stop()
        self._scratch.close()

    def __enter__(self) -> "ObjectServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _wait(self) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + START_S
        while True:
            try:
                opener.open(self.endpoint, timeout=START_S).close()
            except urllib.error.HTTPError:
                # nobody is let in without a key
                return
            except OSError:
                if not self._process.alive() or time.monotonic() > deadline:
                    raise AssertionError(f"S3Proxy does not start:\n{self._process.tail()}") from None
                time.sleep(0.05)
            else:
                return
