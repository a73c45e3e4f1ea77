"""The workers' table of recipes as the product asks it: with errors of its own kind, and in words."""

from __future__ import annotations

from profile_and_optimize.quant.pao_ptq.targets import BACKENDS, LLM_COMPRESSOR, MODELOPT, RECIPES, Recipe, targets_of
from profile_and_optimize.quant.pao_ptq.targets import recipe_of as _recipe_of
from profile_and_optimize.quant.stops import our_errors

__all__ = ["BACKENDS", "LLM_COMPRESSOR", "MODELOPT", "RECIPES", "Recipe", "recipe_of", "served_words", "targets_of"]


def recipe_of(backend: str, target: str) -> Recipe:
    """Raises WrongUse for a pair that there is not, naming those there are."""
    with our_errors():
        return _recipe_of(backend, target)


def served_words(recipe: Recipe) -> str:
    return "; ".join(s.words() for s in recipe.served) or "no engine that is known here"
