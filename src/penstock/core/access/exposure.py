"""Decides whether a gateway may listen where its settings say: beyond loopback only with authentication and TLS."""

from dataclasses import dataclass

INSECURE = "--insecure-no-auth"
"""The option of `penstock serve` that permits what is refused here."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """How a gateway can be reached. ``hosts`` are the addresses beyond loopback on which it listens for requests;
    ``is_permitted`` says that the operator allows them without authentication and TLS."""

    hosts: tuple[str, ...] = ()
    authenticates: bool = False
    encrypts: bool = False
    is_permitted: bool = False

    @property
    def is_insecure(self) -> bool:
        """Whether others than this machine reach it without authentication or TLS."""
        return bool(self.hosts) and not (self.authenticates and self.encrypts)

    @property
    def is_refused(self) -> bool:
        """Whether the gateway must not start."""
        return self.is_insecure and not self.is_permitted

    @property
    def controls_repository(self) -> bool:
        """Whether the data ports load and unload models and register shared memory, unless a setting says otherwise:
        with authentication the permission decides, without it only this machine may."""
        return self.authenticates or not self.hosts

    def refusal(self) -> str:
        """Return the sentence for a gateway that must not start."""
        return (
            f"listening on {', '.join(self.hosts)} needs the settings {self._missing()}; without them only loopback "
            f"addresses are allowed (permit it with {INSECURE} on a network that you trust)"
        )

    def warning(self) -> str:
        """Return the sentence for the log of a gateway that runs nevertheless."""
        return (
            f"everyone who can reach {', '.join(self.hosts)} may use this gateway ({INSECURE}): "
            f"configure {self._missing()}"
        )

    def _missing(self) -> str:
        missing = [name for name, has in (("auth", self.authenticates), ("tls", self.encrypts)) if not has]
        return " and ".join(missing)
