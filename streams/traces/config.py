"""What switches traces on. OpenTelemetry's own library reads the rest of its variables by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from imagetools.errors import ConfigError
from streams import settings as table

PROTOCOL: Final = table.OTEL_EXPORTER_OTLP_PROTOCOL.default

NEEDED: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
"""Modules of the extra `traces`."""


@dataclass(frozen=True)
class TracesConfig:
    """Whether traces are sent.

    exporter  none or otlp; None: nobody has said
    disabled  whether no traces are sent all the same
    endpoint  address of a collector, which switches nothing on
    protocol  how they are sent; only PROTOCOL is possible
    """

    exporter: str | None = table.OTEL_TRACES_EXPORTER.default
    disabled: bool = table.OTEL_SDK_DISABLED.default
    endpoint: str | None = table.OTEL_EXPORTER_OTLP_ENDPOINT.default
    protocol: str = PROTOCOL

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "TracesConfig":
        """The settings in `environ`; ConfigError where they ask for traces that cannot be sent."""
        found = cls(
            exporter=table.OTEL_TRACES_EXPORTER.read(environ),
            disabled=table.OTEL_SDK_DISABLED.read(environ),
            endpoint=table.OTEL_EXPORTER_OTLP_ENDPOINT.read(environ),
            protocol=table.OTEL_EXPORTER_OTLP_PROTOCOL.read(environ),
        )
        if found.on:
            found.check()
        return found

    @property
    def on(self) -> bool:
        """Whether traces are sent."""
        return self.exporter == "otlp" and not self.disabled

    @property
    def undecided(self) -> bool:
        """Whether a collector is named and nothing says that traces go there, or that they do not."""
        return self.exporter is None and self.endpoint is not None and not self.disabled

    def check(self) -> None:
        """Raise ConfigError where traces cannot be sent."""
        if self.protocol != PROTOCOL:
            raise ConfigError(
                f"OTEL_EXPORTER_OTLP_PROTOCOL is {self.protocol!r}: traces are sent by {PROTOCOL} alone, which "
                "collectors take on port 4318"
            )
        if not all(map(_is_there, NEEDED)):
            raise ConfigError(
                "OTEL_TRACES_EXPORTER is 'otlp', and OpenTelemetry is not installed: "
                "pip install 'imagetools-kafka[traces]'"
            )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # a package above it is missing
        return False
