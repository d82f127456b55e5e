"""Evaluation: what inversions and their edits are worth, benchmark tables, timing."""

from latentlab.evaluation.inversions import Judges, evaluate, load_judges, summarize, true_edit
