"""The section ``auth`` of the settings: which credentials are accepted, and what their callers may do."""

from pathlib import Path
from typing import Annotated

from penstock.config.fields import Check, Field, Section
from penstock.config.sections import QuotaSettings
from penstock.core.access.permissions import ALL_MODELS, ROLES, is_model_pattern


def _check_role(text: str) -> None:
    if text not in ROLES:
        raise ValueError(f"expected one of {', '.join(ROLES)}")


def _check_pattern(text: str) -> None:
    if not is_model_pattern(text):
        raise ValueError("expected the name of a model, a prefix such as fraud-*, or *")


_KEY_ADDRESS = r"^(https://[^\s@]+|http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/[^\s@]*)?)$"
"""https, or plain http on this machine: whoever can change the keys on their way can sign tokens."""

Text = Annotated[str, Field(min_length=1, max_length=1024)]
Claim = Annotated[str, Field(min_length=1, max_length=128)]


class OidcSettings(Section):
    """An issuer of signed tokens (OpenID Connect, JWT)."""

    issuer: Text
    """Value of the claim iss of its tokens."""

    audience: Text
    """Value that the claim aud of its tokens must contain."""

    jwks_file: Path | None = None
    """File with its public keys, a JSON Web Key Set; it is read again when it changes."""

    jwks_url: Annotated[str, Field(pattern=_KEY_ADDRESS)] | None = None
    """Address of its public keys; the control process fetches them every minute, and keeps them if that fails."""

    username_claim: Claim = "sub"
    """Claim with the caller's name."""

    username_prefix: str | None = None
    """Text before the name; by default the issuer and #, so that names of two issuers differ."""

    groups_claim: Claim = "groups"
    """Claim with the caller's groups."""

    groups_prefix: str = ""
    """Text before the name of each group."""

    def check(self) -> None:
        """See ``Section``."""
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("expected either jwks_file or jwks_url")


class MtlsSettings(Section):
    """Client certificates as credentials; needs tls."""

    client_ca: Path
    """File with the certificates of the authorities that sign client certificates, PEM."""


class BindingSettings(Section):
    """A role for a caller, by token or client certificate, or for the members of a group."""

    caller: str = ""
    """Name of the caller."""

    group: str = ""
    """Name of the group."""

    role: Annotated[str, Check(_check_role)]
    """caller, viewer, operator, publisher, approver, admin, or the name of one permission."""

    models: Annotated[tuple[Annotated[str, Check(_check_pattern)], ...], Field(min_length=1)] = (ALL_MODELS,)
    """Models that it holds for: names, or prefixes such as fraud-*."""

    quota: QuotaSettings | None = None
    """Quota of the caller, or one for all members of the group together; the first binding with one counts."""

    def check(self) -> None:
        """See ``Section``."""
        if bool(self.caller) == bool(self.group):
            raise ValueError("expected either caller or group")


class AuthSettings(Section):
    """Credentials that are accepted; at least one of keys, oidc and mtls."""

    keys: bool = False
    """Accept API keys, which penstock keys creates."""

    oidc: tuple[OidcSettings, ...] = ()
    """Issuers whose signed tokens are accepted."""

    mtls: MtlsSettings | None = None
    """Accept client certificates; none by default."""

    bindings: tuple[BindingSettings, ...] = ()
    """What callers by token and by client certificate may do; nothing by default."""

    dry_run: bool = False
    """Refuse nothing, and count what would be refused."""

    def check(self) -> None:
        """See ``Section``."""
        if not (self.keys or self.oidc or self.mtls):
            raise ValueError("expected keys: true, oidc or mtls; without them nobody could call")
        if len({(item.issuer, item.audience) for item in self.oidc}) < len(self.oidc):
            raise ValueError("oidc: the same issuer and audience is given twice")
