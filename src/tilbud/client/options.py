"""How connections are kept: what gRPC itself repeats, waits for and looks after.

What holds: a connection is its own, since the service spreads connections, not calls, over its processes. The
service config is the published one. A connection that broke is tried again within a second, one that hangs is
noticed by pings. Never through a proxy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.resources import files

Metadata = Sequence[tuple[str, str]]
MetadataSource = Metadata | Callable[[], Metadata] | None
"""What goes with each call, such as ("authorization", "Bearer …"), or what returns it, asked at each call."""
CONNECTIONS = 4
DECIDE_S = 0.25
"""How long one decision may take, with all that gRPC repeats of it, where nobody says."""


def channel_options() -> list[tuple[str, str | int]]:
    """Return the options of each channel."""
    return [
        ("grpc.service_config", files("tilbud.v1").joinpath("service_config.json").read_text("utf-8")),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.enable_http_proxy", 0),
    ]


def metadata_of(source: MetadataSource) -> Metadata | None:
    """Return what goes with the next call."""
    metadata = source() if callable(source) else source
    return None if metadata is None else tuple(metadata)
