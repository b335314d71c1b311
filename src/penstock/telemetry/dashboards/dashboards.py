"""All dashboards, as files."""

import json

from penstock.telemetry.dashboards.document import dashboard_document
from penstock.telemetry.dashboards.drift import DRIFT_DASHBOARD
from penstock.telemetry.dashboards.fleet import FLEET
from penstock.telemetry.dashboards.model import MODEL_DASHBOARD
from penstock.telemetry.dashboards.rollout import ROLLOUT_DASHBOARD

DASHBOARDS = (FLEET, MODEL_DASHBOARD, ROLLOUT_DASHBOARD, DRIFT_DASHBOARD)


def dashboard_files(console: str) -> dict[str, str]:
    """Return the content of each dashboard's file by its name; ``console`` is the address of an ops port."""
    return {
        f"{dashboard.name}.json": json.dumps(dashboard_document(dashboard, console), indent=2) + "\n"
        for dashboard in DASHBOARDS
    }
