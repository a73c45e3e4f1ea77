"""Quantizes a model after training and proves what was written, wherever torch is: `python -m pao_ptq STEP JOB.json`.

Copied as a folder into pods and job folders, it imports nothing of the product around it. Steps, in their order: `calibrate`,
`quantize`, `roundtrip`, `guard`. What writes (`quantize` and what it imports) and what checks (`roundtrip`, `guard`) share
names, files and the loading of models, and no arithmetic: a test says so.
"""
