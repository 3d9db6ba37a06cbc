"""What a person or a program sees of a command: help, menus, progress, results."""
