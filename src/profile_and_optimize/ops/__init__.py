"""One file per thing a user can do. This table is the list of features; command line and docs derive from it."""

MODULES = (
    "ab", "bench", "mock", "optimize", "campaign_init", "campaign_run", "cell_run", "atlas_aggregate", "champion_select",
    "report_render", "verify", "explain", "lint", "calibrate", "tools",
)  # fmt: skip
