"""Several jobs through all four workers in one process, so that the libraries are loaded once. Runs in the `ptq` environment.

python road.py WORKERS-FOLDER JOB.json [JOB.json ...]     a JSON line for each: job, statuses, the error that ended it
"""

import contextlib
import importlib
import io
import json
import sys


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    workers = [importlib.import_module(name) for name in ("calibrate", "quantize", "roundtrip", "guard")]
    for job in sys.argv[2:]:
        said, statuses = io.StringIO(), []
        for worker in workers:
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                statuses.append(worker.main([job]))
            if statuses[-1]:
                break
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
