"""Every SQL statement of the project. Knows no provider and owns no transaction (services do)."""
