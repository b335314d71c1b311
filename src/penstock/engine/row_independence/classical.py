"""ai.onnx.ml: trees, linear models and what prepares their features; a matrix has a line for each row."""

from penstock.engine.row_independence.broadcasting import same_shape
from penstock.engine.row_independence.operation import Operation, OperatorRule, rows_at
from penstock.engine.row_independence.selection import array_feature_extractor, feature_vector
from penstock.engine.row_independence.sizes import SymbolicSize
from penstock.engine.row_independence.values import GraphValue, NotProven, RowAxis, laid_out


def find_lines(op: Operation) -> tuple[SymbolicSize, RowAxis | None]:
    """The first dimension of a matrix, along which the rows lie; a vector would be one line made of all rows."""
    value = op.tensor(0)
    if value.rank != 2:
        raise NotProven("takes a value that is not a matrix as one row")
    return value.shape[0], rows_at(value, 0)


def same_lines(op: Operation) -> list[GraphValue]:
    """Operators that change each line of a matrix by itself, and keep its length."""
    find_lines(op)
    return same_shape(op)


def classifier(op: Operation) -> list[GraphValue]:
    """A label and scores for each line."""
    number, rows = find_lines(op)
    _check_scores(op)
    return [laid_out([number], rows), laid_out([number, op.fresh()], rows)]


def tree_classifier(op: Operation) -> list[GraphValue]:
    """A label for each line, and a score for each label."""
    number, rows = find_lines(op)
    _check_scores(op)
    return [laid_out([number], rows), laid_out([number, _count_listed(op, "classlabels")], rows)]


def _check_scores(op: Operation) -> None:
    """Refuse what leaves out the second score of two classes, though there is a place for it in each line: what the
    runtime writes for a line then lies in the lines of others."""
    if op.text("post_transform", "NONE") == "PROBIT":
        raise NotProven("may write the scores of a row into other rows (post_transform PROBIT)")


def _count_listed(op: Operation, name: str) -> SymbolicSize:
    """How many texts or whole numbers an attribute lists; nothing is known of a single one."""
    lists = [op.node.attributes.get(f"{name}_{kind}") for kind in ("strings", "int64s")]
    count = max(len(item) if isinstance(item, tuple) else 0 for item in lists)
    return SymbolicSize(count) if count > 1 else op.fresh()


def regressor(op: Operation) -> list[GraphValue]:
    """Numbers for each line."""
    number, rows = find_lines(op)
    return [laid_out([number, _count_targets(op)], rows)]


def _count_targets(op: Operation) -> SymbolicSize:
    stated = op.node.attributes.get("n_targets", op.node.attributes.get("targets"))
    return SymbolicSize(stated) if isinstance(stated, int) else op.fresh()


def categories(op: Operation) -> list[GraphValue]:
    """OneHotEncoder: a new last axis with a place for each category."""
    value = op.tensor(0)
    return [laid_out([*value.shape, _count_listed(op, "cats")], value.rows)]


RULES: dict[str, OperatorRule] = {
    "ArrayFeatureExtractor": array_feature_extractor,
    "Binarizer": same_shape,
    "CategoryMapper": same_shape,
    "FeatureVectorizer": feature_vector,
    "Imputer": same_lines,
    "LabelEncoder": same_shape,
    "LinearClassifier": classifier,
    "LinearRegressor": regressor,
    "Normalizer": same_lines,
    "OneHotEncoder": categories,
    "SVMClassifier": classifier,
    "SVMRegressor": regressor,
    "Scaler": same_lines,
    "TreeEnsemble": regressor,
    "TreeEnsembleClassifier": tree_classifier,
    "TreeEnsembleRegressor": regressor,
}
"""The operators of ai.onnx.ml."""
