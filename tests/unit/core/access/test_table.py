"""Bindings add up, by the caller's name and by groups, and grant nothing to others."""

from penstock.core.access.permissions import Permission, is_allowed
from penstock.core.access.table import Binding, bound_grants

BINDINGS = (
    Binding("caller", caller="bot", models=("digits",)),
    Binding("viewer", group="ops"),
    Binding("operator", group="ops", models=("fraud-*",)),
)


def test_bindings_of_a_name_and_of_groups_add_up() -> None:
    grants = bound_grants(BINDINGS, "bot", {"ops", "other"})
    assert is_allowed(grants, Permission.PREDICT, "digits")
    assert is_allowed(grants, Permission.READ, "anything")
    assert is_allowed(grants, Permission.OPERATE, "fraud-1") and not is_allowed(grants, Permission.OPERATE, "digits")


def test_nobody_else_gets_anything() -> None:
    assert bound_grants(BINDINGS, "Bot") == ()
    assert bound_grants(BINDINGS, "", {""}) == ()
    assert bound_grants(BINDINGS, "ops") == ()
