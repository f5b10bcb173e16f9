"""The worked answers run, too: after notebook 2, whose run they look at."""

from test_nbval import run_small


def test_the_worked_answers_run(tmp_path):
    run_small(["02_training.ipynb", "solutions"], tmp_path)
