"""Accuracy of the audit's verdicts, as published in docs/accuracy.md: `python -m benchmarks.accuracy [--quick]`.

Sources of truth: situations whose right answer follows from how they are made (`situations`: their own generator, nothing
of `engine.simulation`), faults planted into real minutes and into those situations (`faults`), runs cut out of real files
(`folders.cut_runs`), and untouched real folders, of which everything above info that the folder's README does not explain is
a false alarm (`folders.untouched`). Planted losses in markets of the engine's own simulator stand beside, named as such.
"""
