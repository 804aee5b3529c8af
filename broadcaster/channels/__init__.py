"""One module per provider: renders, quotes and sends. Never touches the database."""
