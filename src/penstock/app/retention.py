"""Converts the retention settings to the seconds and bytes that the janitor uses."""

from penstock.config.sections import RetentionSettings
from penstock.control.retention import DAY_S, RetentionLimits


def retention_of(settings: RetentionSettings) -> RetentionLimits:
    """Return the retention settings in seconds and bytes."""
    return RetentionLimits(
        events_s=settings.events_days * DAY_S,
        audit_s=settings.audit_days * DAY_S,
        audit_archive_s=settings.audit_archive_days * DAY_S,
        trials_s=settings.trials_days * DAY_S,
        trials_per_model=settings.trials_per_model,
        deliveries_s=settings.deliveries_days * DAY_S,
        dead_deliveries_s=settings.dead_deliveries_days * DAY_S,
        retired_versions_s=settings.retired_versions_days * DAY_S,
        references_s=settings.references_days * DAY_S,
        keys_s=settings.keys_days * DAY_S,
        erasures_s=settings.erasures_days * DAY_S,
        exports_s=settings.exports_days * DAY_S,
        exports_bytes=settings.exports_bytes,
        copies_s=settings.copies_days * DAY_S,
    )
