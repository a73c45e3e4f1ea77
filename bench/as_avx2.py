"""Runs a command as on a machine with AVX2 alone, as most laptops are: `python bench/as_avx2.py .ci/run`.

In a mount namespace of its own (Linux, `unshare`; nothing outside sees it, nothing is left) two things look different:
/proc/cpuinfo lacks the flags of AVX-512 and AMX, and the Python that all environments are made of imports
`avx2_mask/sitecustomize.py`, which limits torch, oneDNN, MKL, OpenBLAS and numpy and answers for `torch.cpu`. vLLM then
loads its AVX2 build and emulates bfloat16, as it does there. Not masked: the C library's string functions and programs that
ask the processor themselves, such as the browser, MKL on processors that are not Intel's, and the tokenizers.

`--show` prints what torch, numpy and vLLM see then.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

MASK = Path(__file__).parent / "avx2_mask"
HIDDEN = re.compile(r"\b(avx512\w*|amx\w*|avx10\w*|avx_vnni\w*|avx_ifma|avx_ne_convert)\b ?")
# cpuinfo, overlay's lower folders, the standard library, then the command.
BIND = 'mount --bind "$1" /proc/cpuinfo && mount -t overlay overlay -o "lowerdir=$2" "$3" && shift 3 && exec "$@"'
SHOW = """
import torch
print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability(), "avx512:", torch.cpu._is_avx512_supported())
from vllm.platforms import current_platform
current_platform.import_kernels()
print("vLLM loads", *sorted({line.split("/")[-1].strip() for line in open("/proc/self/maps") if "/vllm/_C" in line}))
"""


def main() -> int:
    args = arguments()
    command = shown() if args.show else args.command
    with tempfile.TemporaryDirectory() as folder:
        cpuinfo = Path(folder, "cpuinfo")
        cpuinfo.write_text(HIDDEN.sub("", Path("/proc/cpuinfo").read_text()))
        began = time.monotonic()
        code = subprocess.run([*masked(cpuinfo), *command]).returncode
        print(
            f"as on AVX2 alone: {time.monotonic() - began:.0f} s, status {code}: {' '.join(command)[:200]}",
            file=sys.stderr,
        )
    return code


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--show", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if not (args.show or args.command):
        parser.error("no command is given")
    return args


def masked(cpuinfo: Path) -> list[str]:
    """What to put before a command. Without root, as root of a user namespace."""
    library = sysconfig.get_path("stdlib")
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", *user, "sh", "-c", BIND, "sh", str(cpuinfo), f"{MASK.resolve()}:{library}", library]


def shown() -> list[str]:
    from profile_and_optimize.toolenv.find import find

    env = find("vllm")
    if env is None:
        raise SystemExit("the vLLM tool environment is not installed: pao tools install vllm")
    return [str(env.python), "-c", SHOW]


if __name__ == "__main__":
    sys.exit(main())
