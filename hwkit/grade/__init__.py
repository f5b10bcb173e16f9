"""Grading a class: a folder of submissions in, marks, feedback and what deserves a second look out."""
