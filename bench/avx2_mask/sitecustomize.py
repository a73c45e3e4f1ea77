"""Run by every Python under `bench/as_avx2.py`: the libraries choose their code as on a processor with AVX2 and no AVX-512."""

import importlib.abc
import importlib.util
import os
import sys

SETTINGS = {
    "ATEN_CPU_CAPABILITY": "avx2",  # torch's own kernels
    "ONEDNN_MAX_CPU_ISA": "AVX2",  # oneDNN, in torch and in vLLM
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",  # numpy and scipy
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4",
}
HIDDEN = ("_is_avx512", "_is_amx", "_is_vnni")


class _TorchCpu(importlib.abc.MetaPathFinder):
    """What torch tells of the processor, which vLLM and inductor choose their builds by, without AVX-512 and AMX."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "torch.cpu":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            for name in [n for n in vars(module) if n.startswith(HIDDEN)]:
                setattr(module, name, lambda: False)

        spec.loader.exec_module = exec_module
        return spec


os.environ.update(SETTINGS)
sys.meta_path.insert(0, _TorchCpu())
