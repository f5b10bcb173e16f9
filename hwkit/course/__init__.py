"""The course: the tasks of the notebooks, and the check of what a student wrote for them."""
