"""Changes a graph so that it can be served: maps become tensors, and some operators get a guard."""

from pathlib import Path
from typing import Any

import onnx

from penstock.core.errors import Refused
from penstock.registry.graphs import (
    crashing_attributes,
    empty_tensors,
    integer_division,
    large_results,
    unchecked_shapes,
)
from penstock.registry.graphs.carried_state import refuse_carried_state
from penstock.registry.graphs.graph_edits import GraphChanges, rewrite
from penstock.registry.graphs.guards import guard_model
from penstock.registry.graphs.rewrite import FACT, encode_rewrite
from penstock.registry.graphs.zipmap import EXPORT, ZIPMAP, cut_zipmaps

Document = dict[str, Any]

RULES = {
    crashing_attributes.NAME: crashing_attributes.RULE,
    unchecked_shapes.NAME: unchecked_shapes.RULE,
    integer_division.GUARDED: integer_division.RULE,
    empty_tensors.GUARDED: empty_tensors.RULE,
    large_results.GUARDED: large_results.RULE,
}
"""Rules that guard or refuse operators that could end the process or work without bounds, by the name of the fact in
the report."""


def repair(path: Path, model: onnx.ModelProto) -> Document:
    """Return the changes of the graph at ``path`` as facts of an admission report, empty for none.

    ``model`` is the parsed graph.

    Raises:
        Refused: the graph cannot be served, even with changes.
    """
    refuse_carried_state(model)
    cut, labels = cut_zipmaps(model)
    guarded, nodes = guard_model(model, RULES)
    changes = cut.join(guarded)
    if changes == GraphChanges():
        return {}
    try:
        rewritten = rewrite(path, model, changes)
    except ValueError:
        what = EXPORT if labels else "save it anew with onnx.save"
        raise Refused(f"the graph has to be changed to be served, and is written in an unusual form; {what}") from None
    facts: Document = {ZIPMAP: labels} if labels else {}
    return {FACT: encode_rewrite(rewritten), **facts, **nodes}
