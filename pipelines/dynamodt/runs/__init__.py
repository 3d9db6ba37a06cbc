"""The control plane: plan, preflight, lock, execute, catch up, undo, retry, follow, history."""
