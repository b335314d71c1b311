"""Which models a list may show: those that some patterns name."""

from dataclasses import dataclass
from typing import Final

from penstock.core.access.permissions import ALL_MODELS, Grants, Permission, matches


@dataclass(frozen=True, slots=True)
class ModelFilter:
    """The models that one of the patterns names; with the pattern ``*`` also what belongs to no model."""

    patterns: tuple[str, ...] = (ALL_MODELS,)

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return ALL_MODELS in self.patterns

    def allows(self, model: str) -> bool:
        """Whether a model is shown; "" stands for what belongs to no model."""
        return self.is_everything or (model != "" and any(matches(pattern, model) for pattern in self.patterns))


EVERY_MODEL: Final = ModelFilter()


def filter_of(grants: Grants, permission: Permission) -> ModelFilter:
    """Return the models on which these grants have a permission."""
    return ModelFilter(tuple(dict.fromkeys(item.pattern for item in grants if permission in item.permissions)))
