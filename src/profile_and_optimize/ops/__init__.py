"""One file per thing a user can do, named as its verb. This table is the list of verbs, in the groups that `pao --help` shows;
command line, MCP and docs derive from it. A new verb is one more name here, and `pao reference --write docs/reference`."""

GROUPS = {
    "Measure servers that run": ("ab", "bench", "bench_all_workloads", "evaluate"),
    "Read and check results": ("runs", "verify", "explain", "export", "lint", "report_smoke"),
    "Choose a configuration": ("optimize", "run_variant_ab", "run_controlled_ab", "serve_matrix", "levers", "workloads"),
    "Quantize a model": ("quantize", "quant_compare", "accuracy_gate", "calibration_prepare", "pad_experts"),
    "A campaign, step by step": (
        "campaign_init", "campaign_run", "cell_run", "import_variant_ab", "atlas_aggregate", "champion_select", "report_render",
    ),
    "Prepare this machine": ("doctor", "tools", "calibrate", "mock"),
}  # fmt: skip
MODULES = tuple(verb for verbs in GROUPS.values() for verb in verbs)
