"""Every rendered file of a run, as a pure function of its evidence: view.py builds what is shown, the others draw it."""
