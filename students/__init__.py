"""Unimodal students: scorers, distillation losses, the one training step, ranking evaluation."""

from students.registry import STUDENTS, make_student
from students.scorer import Scorer

__all__ = ["STUDENTS", "Scorer", "make_student"]
