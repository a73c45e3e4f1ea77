"""Several jobs through all four steps in one process, so that the libraries are loaded once. Runs in the `ptq` environment.

python road.py FOLDER_OF_PAO_PTQ JOB.json [JOB.json ...]     a JSON line for each: job, statuses, the error that ended it
"""

import contextlib
import importlib
import io
import json
import sys


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    program = importlib.import_module("pao_ptq.__main__")
    for job in sys.argv[2:]:
        said, statuses = io.StringIO(), []
        for step in program.STEPS:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                statuses.append(program.main([step, job]))
            if statuses[-1]:
                break
        print(said.getvalue(), file=sys.stderr, flush=True)
        errors = [
            line.removeprefix("PAO-ERROR ") for line in said.getvalue().splitlines() if line.startswith("PAO-ERROR ")
        ]
        failed = [line for line in said.getvalue().splitlines() if line.startswith("FAIL ")]
        print(
            json.dumps(
                {
                    "job": job,
                    "statuses": statuses,
                    "error": json.loads(errors[-1]) if errors else None,
                    "failed": failed,
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
