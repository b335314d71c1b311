"""Requests that burn the budget of an objective, and requests that do not, a sample a minute."""

from tests.integration.operations.alert_cases import OF_ERRORS, OF_LATENCY, VERSION, Case, Series, requests

DURATION = f'penstock_request_duration_seconds_{{part}}{{{{{VERSION},route="stable",protocol="rest"{{le}}}}}}'


def durations(quick: str, total: str) -> Series:
    """Requests within 25.6 ms, and all."""
    return {
        **requests(total, "400", "0x1"),
        DURATION.format(part="bucket", le=',le="0.0256"'): quick,
        DURATION.format(part="count", le=""): total,
    }


def burning(ok: str, failed: str) -> Series:
    return requests(ok, "503", failed)


BURNS = (
    # the objective is 0.1 %; at 1000 requests a minute
    Case(
        "PenstockErrorBudgetBurn",
        burning("0+980x90", "0+20x90"),  # 2 %, of which 14.4 times the budget is less
        10,
        OF_ERRORS,
        {
            "low traffic": (burning("0+9x90", "0+9x90"), 5),
            "below the threshold": (burning("0+999.1x90", "0+0.9x90"), 80),
            "mistakes of callers": (requests("0+500x90", "404", "0+500x90"), 80),
            "a short burst": (burning("0+1000x120 120000+950x5 124750+1000x60", "0x120 0+50x5 250x60"), 125),
            "after recovery": (burning("0+500x60 30000+1000x60", "0+500x60 30000x60"), 100),
        },
        severity="page",
    ),
    Case(
        "PenstockErrorBudgetBurn",
        burning("0+992x420", "0+8x420"),  # 0.8 %: over 30 minutes and 6 hours
        400,
        OF_ERRORS,
        {"below the threshold": (burning("0+995x420", "0+5x420"), 400)},
        severity="page",
    ),
    Case(
        "PenstockErrorBudgetBurn",
        burning("0+996x300", "0+4x300"),  # 0.4 %: over 2 hours and a day
        200,
        OF_ERRORS,
        {"after recovery": (burning("0+500x60 30000+1000x1200", "0+500x60 30000x1200"), 480)},
    ),
    Case(
        "PenstockErrorBudgetBurn",
        burning("0+998x420", "0+2x420"),  # 0.2 %: over 6 hours and 3 days
        400,
        OF_ERRORS,
        {"below the threshold": (burning("0+999.1x420", "0+0.9x420"), 400)},
    ),
    # the objective is 1 % slower than 25.6 ms
    Case(
        "PenstockLatencyBudgetBurn",
        durations("0+800x90", "0+1000x90"),
        10,
        OF_LATENCY,
        {
            "low traffic": (durations("0+2x90", "0+10x90"), 8),
            "below the threshold": (durations("0+991x90", "0+1000x90"), 80),
            "after recovery": (durations("0+200x60 12000+1000x60", "0+1000x120"), 100),
        },
        severity="page",
    ),
    Case(
        "PenstockLatencyBudgetBurn",
        durations("0+960x300", "0+1000x300"),
        200,
        OF_LATENCY,
        {"below the threshold": (durations("0+991x300", "0+1000x300"), 200)},
    ),
)
