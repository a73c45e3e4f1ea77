"""One file per thing a user can do. This table is the list of features; command line and docs derive from it."""

MODULES = (
    "ab", "bench", "bench_all_workloads", "workloads", "mock", "optimize", "levers", "run_variant_ab", "run_controlled_ab",
    "quantize", "calibration_prepare", "pad_experts", "quant_compare", "campaign_init",
    "campaign_run", "cell_run", "import_variant_ab", "atlas_aggregate", "champion_select", "report_render", "report_smoke", "verify",
    "explain", "export", "runs", "doctor", "lint", "calibrate", "tools", "evaluate", "accuracy_gate", "serve_matrix",
)  # fmt: skip
