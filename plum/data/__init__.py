"""Sources of logs and items, the checks of their rows, splits and histories."""
