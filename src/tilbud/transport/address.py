"""What addresses that a service listens on have in common, whatever the protocol."""

from __future__ import annotations


class AddressRefused(OSError):
    """The address that an option names cannot be had."""

    def __init__(self, listen: str, reason: str, option: str = "--listen") -> None:
        super().__init__(f"cannot listen on {listen}: {reason}; choose another {option}")
