"""The command line: arguments to requests, results to text or JSON, and exit codes."""
