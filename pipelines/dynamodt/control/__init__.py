"""The control plane: what to run, when, and what to tell the person who asked. No Beam here."""
