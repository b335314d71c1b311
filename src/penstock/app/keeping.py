"""How long what grows is kept, from the settings."""

from penstock.config.sections import Retention
from penstock.control.retention import DAY_S, Keeping


def keeping_of(stated: Retention) -> Keeping:
    """What the settings say, in seconds."""
    return Keeping(
        events_s=stated.events_days * DAY_S,
        audit_s=stated.audit_days * DAY_S,
        audit_archive_s=stated.audit_archive_days * DAY_S,
        trials_s=stated.trials_days * DAY_S,
        trials_per_model=stated.trials_per_model,
        deliveries_s=stated.deliveries_days * DAY_S,
        dead_deliveries_s=stated.dead_deliveries_days * DAY_S,
        retired_versions_s=stated.retired_versions_days * DAY_S,
        references_s=stated.references_days * DAY_S,
        exports_s=stated.exports_days * DAY_S,
        exports_bytes=stated.exports_bytes,
        copies_s=stated.copies_days * DAY_S,
    )
