"""What several tests share. `pythonpath` in pyproject.toml lets tests import it."""
