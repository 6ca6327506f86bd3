"""Multimodal teachers: scorers, their pre-training, and the store of what they said."""

from teachers.registry import TEACHERS, make_teacher, teacher_names

__all__ = ["TEACHERS", "make_teacher", "teacher_names"]
