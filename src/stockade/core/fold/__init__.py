"""Events → snapshot, one at a time or all at once."""

from stockade.core.fold.labelling import LabelProblem, label_problems
from stockade.core.fold.state import Folding, apply, fold

__all__ = ["Folding", "LabelProblem", "apply", "fold", "label_problems"]
