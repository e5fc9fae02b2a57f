"""What each vendor calls the parts of an event."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """Top-level keys of a vendor's row, for each part of the canonical event; of several the first present counts."""

    event_id: tuple[str, ...]
    event: tuple[str, ...]
    occurred_at: tuple[str, ...]
    received_at: tuple[str, ...]
    user_id: tuple[str, ...]
    groups: tuple[str, ...]
    properties: tuple[str, ...]
    user_properties: tuple[str, ...]
    time_formats: tuple[str, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key once."""
        parts = (
            self.event_id, self.event, self.occurred_at, self.received_at,
            self.user_id, self.groups, self.properties, self.user_properties,
        )  # fmt: skip
        return tuple(dict.fromkeys(key for part in parts for key in part))


SHAPES = {
    "amplitude": Shape(
        event_id=("uuid",),
        event=("event_type",),
        occurred_at=("event_time", "client_event_time"),
        received_at=("server_upload_time", "server_received_time"),
        user_id=("user_id",),
        groups=("groups",),
        properties=("event_properties",),
        user_properties=("user_properties",),
        # without a zone: UTC, as documented; the RFC 3339 forms leave no doubt either
        time_formats=("%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ"),
    ),
}
