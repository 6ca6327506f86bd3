"""Methods against forgetting, compared on streams of tasks (docs/mspt.md)."""
