"""A function of a module with a name of one word begins with a verb: a noun is the name of what it returns."""

import re
from pathlib import Path

import penstock

SOURCE = Path(penstock.__file__).parent
_FUNCTION = re.compile(r"^(?:async )?def _?([a-z0-9]+)_?\(", re.MULTILINE)

_VERBS = """
accept acquire add admit adopt advance align allow answer append apply apportion approve archive ask attempt audit
bind bound build cancel capture cast change charge check choose clear close collect combine compare compress compute
concatenate conclude confine connect convert copy count covers create cut deal decide decode deflate delete delimit
demand describe divide draw drop dump encode end estimate evaluate examine exchange exclude expand explain fail fetch
fill find finish flatten flip follow forget format forward gather get give group guard has hash hold identify ignore
import infer inflate inspect interleave interpret is join judge jump keep kill launch learn list listen load locate
lock log main make map mark match matches measure merge migrate move name normalise note observe open order pack pair
parse pass pause pick place plan post prepare print probe promote prove publish push put query quote raise read
readings receive record reduce refuse register reject release remove rename render reorder repair replace report
request require reserve reset reshape resolve restore restrict resume retire retry return revoke rewrite rotate round
route run sample save scale scan schedule score search select send serve set share shift shorten show shrink sign skip
slice smooth sort spawn split spread stack start state step stop store strip submit subtract sum summarise swap sweep
sync take test thin tighten total trace track train transform transition translate trim try unpack update upgrade
upsert use validate vary verify wait wake warn watch weigh widen wrap write
"""
VERBS = set(_VERBS.split())
"""Add a verb of the field where none of these says it."""

EXEMPT = (
    "cli/",  # the commands
    "engine/row_independence/",  # the rules of operators have the names of the operators
    "explain/links.py",  # and functions of a formula those of mathematics
    "registry/db/migrations/",
    "telemetry/dashboards/queries.py",  # PromQL
    "telemetry/otlp/",  # the types of protobuf
)


def bare_nouns(code: str) -> list[str]:
    """Names of one word of the functions of a module that are not verbs."""
    return [name for name in _FUNCTION.findall(code) if name not in VERBS]


def test_functions_with_a_name_of_one_word_begin_with_a_verb() -> None:
    files = {file.relative_to(SOURCE).as_posix(): file for file in SOURCE.rglob("*.py") if "_pb2" not in file.name}
    assert len(files) > 400  # the search finds something
    found = {name: bare_nouns(file.read_text()) for name, file in files.items() if not name.startswith(EXEMPT)}
    assert not {name: nouns for name, nouns in found.items() if nouns}


def test_a_bare_noun_is_found() -> None:
    assert bare_nouns("def _columns(x): ...\nasync def load(): ...\nclass A:\n    def rows(self): ...\n") == ["columns"]
