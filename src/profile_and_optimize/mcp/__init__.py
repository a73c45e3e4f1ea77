"""The ops as tools of an MCP server. Nothing here names a verb: the table of `ops/` does."""

KEY = "profile_and_optimize"
EXECUTABLE = "profile-and-optimize-mcp"
