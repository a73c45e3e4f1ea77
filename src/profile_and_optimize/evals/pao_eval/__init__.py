"""The worker of `pao evaluate`: asks a server the questions of lm-eval's tasks and scores the answers.

A folder that runs wherever lm-eval is installed: `python -m pao_eval evaluate JOB.json`, with the folder above it on
PYTHONPATH. Standard library and lm-eval only; imports nothing but the modules beside it.
"""
