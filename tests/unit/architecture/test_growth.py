"""Everything that grows has a retention: each table and each place in the home is in the janitor's lists.

Who adds one says in ``control/retention.py`` how long its content stays.
"""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import penstock
from penstock.config.sections import RetentionSettings
from penstock.control.retention import FILES, FOLDERS, TABLES
from penstock.core.sink_rules import FOLDER
from penstock.monitor.answer_segments import ANSWERS
from penstock.monitor.capture import CAPTURES
from penstock.registry.db import schema
from penstock.registry.location import location_of

SOURCE = Path(penstock.__file__).parent


def test_every_table_has_a_retention() -> None:
    assert set(TABLES) == {*schema.metadata.tables, "alembic_version"}


def test_every_setting_that_the_lists_name_exists_and_the_other_way_round() -> None:
    names = {word.strip(",") for text in (*TABLES.values(), *FOLDERS.values()) for word in text.split()}
    names = {word.removeprefix("retention.") for word in names if word.startswith("retention.")}
    assert names == set(RetentionSettings.kinds) - {"series_seconds"}


def test_every_place_in_the_home_has_a_retention() -> None:
    known = [*FOLDERS, *FILES]
    place = location_of("", Path("/home"), "", "folders")
    parts = [place.unpacked, place.cache, place.incoming, place.snapshot_file, place.copies, place.verdicts]
    parts += [place.access_file, Path(place.database.removeprefix("sqlite:///")), Path(place.blobs)]
    found = {part.relative_to("/home").parts[0] for part in parts} | set(places_in_source())
    found.discard("index.json")  # in the folder of references, which its owner calls its home
    assert {"retraining", "references", "gateway.json", ANSWERS, CAPTURES} <= found  # the search finds something
    assert not [name for name in found if not any(fnmatch(name, pattern) for pattern in known)]


def places_in_source() -> Iterator[str]:
    """What the code appends to a home: ``home / "name"``, also as an attribute; commands for people aside."""
    names = {"ANSWERS": ANSWERS, "CAPTURES": CAPTURES, "FOLDER": FOLDER}
    for file in SOURCE.rglob("*.py"):
        if (SOURCE / "cli") in file.parents:
            continue
        text = file.read_text()
        for node in ast.walk(ast.parse(text)) if "home" in text else ():
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and is_home(node.left):
                if isinstance(node.right, ast.Constant):
                    yield str(node.right.value)
                elif isinstance(node.right, ast.Name) and node.right.id.isupper():
                    yield names[node.right.id]


def is_home(node: ast.expr) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return name.lstrip("_") == "home"
