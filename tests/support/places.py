"""Where a process of a test runs: on this machine as it is, or on a host with an address of its own."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """A host. `prefix` stands before a command to run it there."""

    address: str = "127.0.0.1"
    prefix: tuple[str, ...] = ()

    def command(self, argv: Sequence[str]) -> list[str]:
        """Returns the command that runs `argv` there."""
        return [*self.prefix, *argv]


HERE = Place()
