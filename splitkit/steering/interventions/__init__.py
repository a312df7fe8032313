"""Interventions: changes of one layer or several, attached only inside a `with`, saved and loaded."""

from splitkit.steering.interventions.saved import load_intervention
from splitkit.steering.interventions.single import Intervention
from splitkit.steering.interventions.sums import InterventionSum, Steering

__all__ = ["Intervention", "InterventionSum", "Steering", "load_intervention"]
