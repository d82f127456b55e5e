"""Evaluation: grades of inversions and edits, benchmark tables, timing."""

from latentlab.evaluation.inversions import Judges, evaluate, grade_inversion, load_judges, summarize, true_edit
